"""What SobelLoss, BoundaryCrossEntropyLoss and BoundaryF1Loss do with their arguments."""

import numpy as np
import pytest
import torch

from mmseg_cpg import BoundaryCrossEntropyLoss, BoundaryF1Loss, SobelLoss
from mmseg_cpg.ops import boundary_cross_entropy_loss, boundary_f1_loss, sobel_loss

LABEL = torch.tensor([[[0, 0, 1, 1]] * 6 + [[2, 2, 2, 2]] * 4])
LOGITS = torch.randn(1, 3, 10, 4, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.rand(LABEL.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ('module', 'function', 'arguments', 'options'),
    [
        (SobelLoss, sobel_loss, dict(ksize=5), {}),
        (BoundaryCrossEntropyLoss, boundary_cross_entropy_loss, dict(width_px=1), dict(ignore_policy='as_background')),
    ],
)
def test_arguments_reach_the_function(module, function, arguments, options, tmp_path):
    class_weight = [0.5, 1.0, 2.0]
    np.save(tmp_path / 'weight.npy', class_weight)
    label = LABEL.masked_fill(LABEL == 2, 7)
    for given in (class_weight, str(tmp_path / 'weight.npy')):
        loss = module(**arguments, **options, loss_weight=3.0, class_weight=given, reduction='sum')
        options = dict(options, ignore_index=7, weight=WEIGHT)
        expected = 3 * function(
            LOGITS, label, *arguments.values(), class_weight=class_weight, reduction='sum', **options
        )
        assert torch.equal(loss(LOGITS, label, weight=WEIGHT, ignore_index=7), expected)
        expected = 3 * function(LOGITS, label, *arguments.values(), class_weight=class_weight, avg_factor=4, **options)
        actual = loss(LOGITS, label, weight=WEIGHT, avg_factor=4, reduction_override='mean', ignore_index=7)
        assert torch.equal(actual, expected)
        options = {name: value for name, value in options.items() if name == 'ignore_policy'}


def test_arguments_reach_boundary_f1_loss():
    label = LABEL.masked_fill(LABEL == 2, 7)
    loss = BoundaryF1Loss(theta0=5, theta=3, loss_weight=3.0)
    assert torch.equal(loss(LOGITS, label, ignore_index=7), 3 * boundary_f1_loss(LOGITS, label, 5, 3, ignore_index=7))


@pytest.mark.parametrize(
    ('arguments', 'got'),
    [
        (dict(weight=WEIGHT), r'a tensor of shape \(1, 10, 4\)'),
        (dict(avg_factor=3), '3'),
        (dict(reduction_override='none'), "'none'"),
    ],
)
def test_no_term_of_a_score_belongs_to_one_pixel(arguments, got):
    (name,) = arguments
    with pytest.raises(ValueError, match=f'{name} must be None, since .* not a per-pixel loss, got {got}'):
        BoundaryF1Loss()(LOGITS, LABEL, **arguments)


@pytest.mark.parametrize(
    ('module', 'arguments'),
    [
        (SobelLoss, dict(ksize=4)),
        (BoundaryCrossEntropyLoss, dict(width_px=0)),
        (BoundaryCrossEntropyLoss, dict(ignore_policy='drop')),
        (BoundaryF1Loss, dict(theta0=1)),
        (BoundaryF1Loss, dict(theta=4)),
    ],
)
def test_bad_arguments_are_refused_when_the_model_is_built(module, arguments):
    (value,) = arguments.values()
    with pytest.raises(ValueError, match=f"got '?{value}'?"):
        module(**arguments)
