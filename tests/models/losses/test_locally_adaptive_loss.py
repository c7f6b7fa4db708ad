import pytest
import torch

from mmseg_cpg import LocallyAdaptiveLoss
from mmseg_cpg.ops import locally_adaptive_loss

LABEL = torch.tensor([[[0, 0, 1, 1]] * 6 + [[2, 2, 2, 2]] * 4])
LOGITS = torch.randn(1, 3, 10, 4, generator=torch.Generator().manual_seed(0))


def test_arguments_reach_the_function():
    weight = torch.rand(LABEL.shape, generator=torch.Generator().manual_seed(1))
    label = LABEL.masked_fill(LABEL == 2, 7)
    loss = LocallyAdaptiveLoss(7, 2, 1.5, 3.0, 'sum')
    options = dict(stride=2, power=1.5, ignore_index=7, weight=weight)
    expected = 3 * locally_adaptive_loss(LOGITS, label, 7, reduction='sum', **options)
    assert torch.equal(loss(LOGITS, label, weight=weight, ignore_index=7), expected)
    expected = 3 * locally_adaptive_loss(LOGITS, label, 7, avg_factor=4, **options)
    actual = loss(LOGITS, label, weight=weight, avg_factor=4, reduction_override='mean', ignore_index=7)
    assert torch.equal(actual, expected)
    assert loss(LOGITS, label, reduction_override='none', ignore_index=7).shape == (1, 5, 2)


@pytest.mark.parametrize('arguments', [dict(ksize=4), dict(stride=0), dict(power=0)])
def test_bad_arguments_are_refused_when_the_model_is_built(arguments):
    (value,) = arguments.values()
    with pytest.raises(ValueError, match=f"got '?{value}'?"):
        LocallyAdaptiveLoss(**arguments)
