import numpy as np
import pytest
import torch

from mmseg_cpg.ops.cpg.dense import probability_gradient
from tests.oracles import cpg_loss as oracle


@pytest.mark.parametrize('ksize', [3, 5, 7])
def test_probability_gradient_is_the_oracles(ksize):
    probability = torch.rand(2, 3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    radius = ksize // 2
    padded = np.pad(probability.numpy(), ((0, 0), (0, 0), (radius, radius), (radius, radius)), mode='edge')
    actual = probability_gradient(probability, ksize)
    assert actual.shape == (2, 3, 2, 6, 7)
    for direction, kernel in enumerate(oracle.kernels(ksize)):
        expected = sum(
            float(factor) * padded[..., radius + v : radius + v + 6, radius + u : radius + u + 7]
            for (v, u), factor in kernel.items()
        )
        np.testing.assert_allclose(actual[:, :, direction], expected, atol=1e-12)
