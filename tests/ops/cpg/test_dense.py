from functools import partial

import numpy as np
import pytest
import torch

from mmseg_cpg.ops import _common, cpg_loss
from mmseg_cpg.ops.cpg.dense import probability_gradient
from tests.inputs import WithoutFloat64, blobs, random_logits
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


@pytest.mark.parametrize('ksize', [3, 9])
def test_devices_without_float64(ksize, monkeypatch):
    label = blobs((2, 20, 17), 4, void=0.02)
    logits = random_logits(label, 4, scale=2.0, seed=1).detach()
    expected = cpg_loss(logits, label, ksize, implementation='dense')
    monkeypatch.setattr(_common, 'has_float64', lambda device: False)
    inputs = logits.as_subclass(WithoutFloat64), label.as_subclass(WithoutFloat64)
    assert torch.equal(cpg_loss(*inputs, ksize, implementation='dense').cpu(), expected)


def test_torch_func():
    label = blobs((2, 20, 17), 4, void=0.02)
    logits = random_logits(label, 4, scale=2.0, seed=1)
    (expected,) = torch.autograd.grad(cpg_loss(logits, label), logits)
    gradient = torch.func.grad(partial(cpg_loss, implementation='dense'))(logits.detach(), label)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)
