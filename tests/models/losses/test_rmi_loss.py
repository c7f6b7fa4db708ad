import numpy as np
import pytest
import torch

from mmseg_cpg import RMILoss
from mmseg_cpg.ops import rmi_loss

LABEL = torch.tensor([[[0, 0, 1, 1] * 4] * 6 + [[2, 2, 2, 2] * 4] * 9])
LOGITS = torch.randn(1, 3, 15, 16, generator=torch.Generator().manual_seed(0))


def test_arguments_reach_the_function(tmp_path):
    class_weight = [0.5, 1.0, 2.0]
    np.save(tmp_path / 'weight.npy', class_weight)
    label = LABEL.masked_fill(LABEL == 2, 7)
    options = dict(radius=2, pool_size=2, ignore_index=7, class_weight=class_weight)
    for given in (class_weight, str(tmp_path / 'weight.npy')):
        loss = RMILoss('paper', 2, 2, 3.0, given, 'sum')
        expected = 3 * rmi_loss(LOGITS, label, 'paper', reduction='sum', **options)
        assert torch.equal(loss(LOGITS, label, ignore_index=7), expected)
        expected = 3 * rmi_loss(LOGITS, label, 'paper', avg_factor=4, **options)
        actual = loss(LOGITS, label, avg_factor=4, reduction_override='mean', ignore_index=7)
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    'arguments', [dict(preset='default'), dict(radius=0), dict(pool_size=0), dict(reduction='none')]
)
def test_bad_arguments_are_refused_when_the_model_is_built(arguments):
    (value,) = arguments.values()
    with pytest.raises(ValueError, match=f"got '?{value}'?"):
        RMILoss(**arguments)


def test_pixel_weights_are_refused():
    with pytest.raises(
        ValueError,
        match=r'weight must be None, since .* not a per-pixel loss, got a tensor of shape \(1, 15, 16\)',
    ):
        RMILoss()(LOGITS, LABEL, weight=torch.ones(LABEL.shape))
    with pytest.raises(ValueError, match=r'weight must be None, since .* not a per-pixel loss, got 2.0'):
        RMILoss()(LOGITS, LABEL, weight=2.0)
    with pytest.raises(ValueError, match="got 'none': RMI is not a per-pixel loss"):
        RMILoss()(LOGITS, LABEL, reduction_override='none')
