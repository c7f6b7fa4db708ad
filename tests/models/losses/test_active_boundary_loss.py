import pytest
import torch
from mmseg.registry import MODELS

from mmseg_cpg import ActiveBoundaryLoss
from mmseg_cpg.ops import BoundaryDistance, active_boundary_loss, boundary_distance
from tests.inputs import blobs, random_logits

LABEL = blobs((2, 23, 31), 3, 0.003)
LOGITS = random_logits(LABEL, 3).detach()


def test_arguments_reach_the_function():
    weight = torch.rand(LABEL.shape, generator=torch.Generator().manual_seed(1))
    label = LABEL.masked_fill(LABEL == 255, 7)
    loss = MODELS.build(
        dict(
            type='mmseg_cpg.ActiveBoundaryLoss',
            loss_weight=3.0,
            boundary_ratio=0.05,
            max_distance=4.0,
            label_smoothing=0.1,
            reduction='sum',
        )
    )
    options = dict(boundary_ratio=0.05, max_distance=4.0, label_smoothing=0.1, ignore_index=7, weight=weight)
    expected = 3 * active_boundary_loss(LOGITS, label, reduction='sum', **options)
    assert torch.equal(loss(LOGITS, label, weight=weight, ignore_index=7), expected)
    expected = 3 * active_boundary_loss(LOGITS, label, avg_factor=4, **options)
    actual = loss(LOGITS, label, weight=weight, avg_factor=4, reduction_override='mean', ignore_index=7)
    assert torch.equal(actual, expected)


def test_defaults_are_the_functions():
    assert torch.equal(ActiveBoundaryLoss()(LOGITS, LABEL), active_boundary_loss(LOGITS, LABEL))


def test_the_official_preset_finds_distances_itself():
    loss = ActiveBoundaryLoss(preset='official')
    loss.precomputed = (BoundaryDistance(boundary_distance(LABEL), 255),)
    assert torch.equal(loss(LOGITS, LABEL), active_boundary_loss(LOGITS, LABEL, preset='official'))


def test_a_precomputed_distance_is_used_where_it_fits():
    loss = ActiveBoundaryLoss()
    distance = boundary_distance(LABEL) + 1  # another one, to see which is used
    loss.precomputed = (BoundaryDistance(distance, 255),)
    assert torch.equal(loss(LOGITS, LABEL), active_boundary_loss(LOGITS, LABEL, distance=distance))
    label = LABEL.clamp(max=2)
    with pytest.warns(UserWarning, match=r'needs \(label shape, ignore_index\) = .*, 7\), .* computed .*, 255\)'):
        actual = loss(LOGITS, label, ignore_index=7)
    assert torch.equal(actual, active_boundary_loss(LOGITS, label, ignore_index=7))


@pytest.mark.parametrize(
    'arguments', [dict(boundary_ratio=2), dict(max_distance=-1), dict(label_smoothing=3), dict(preset='x')]
)
def test_bad_arguments_are_refused_when_the_model_is_built(arguments):
    (value,) = arguments.values()
    with pytest.raises(ValueError, match=f"got '?{value}'?"):
        ActiveBoundaryLoss(**arguments)
