"""Peak memory on labels that are noise, where nearly every pixel has boundary entries of many classes."""

import pytest
import torch

from benchmarks.common import peak_allocated, peak_memory
from mmseg_cpg.ops import boundary_targets, cpg_loss, cross_entropy_cpg_loss

pytestmark = pytest.mark.skipif(
    torch.__version__ < '2.4', reason="the profiler's events of older versions have no start_ns"
)


@pytest.mark.parametrize('loss', [cpg_loss, lambda *args: cross_entropy_cpg_loss(*args).total], ids=['cpg', 'fused'])
@pytest.mark.parametrize(('num_classes', 'ksize'), [(2, 3), (2, 7), (19, 3), (19, 5)])
def test_memory_on_noise_is_at_most_four_times_that_of_the_arguments(loss, num_classes, ksize):
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(num_classes, (1, 704, 704), generator=generator)
    logits = torch.randn(1, num_classes, *label.shape[1:], generator=generator).requires_grad_()
    peak = peak_memory(lambda z: loss(z, label, ksize), logits) * logits.nbytes
    assert peak <= 4 * (logits.nbytes + label.nbytes)


@pytest.mark.parametrize(('num_classes', 'ksize'), [(150, 3), (19, 5)])
def test_targets_of_noise_take_at_most_twice_their_own_memory(num_classes, ksize):
    """They are found band by band, of which there are five here, and one of three tensors after the other is joined."""
    label = torch.randint(num_classes, (1472, 1472), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    results = []
    peak = peak_allocated(lambda: results.append(boundary_targets(label, ksize)))
    assert peak <= 2 * sum(value.nbytes for value in vars(results[0]).values() if torch.is_tensor(value))
