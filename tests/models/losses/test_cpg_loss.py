import warnings

import numpy as np
import pytest
import torch

from mmseg_cpg import CPGLoss, CrossEntropyCPGLoss
from mmseg_cpg.models.losses.zero_streak import ZeroStreak
from mmseg_cpg.ops import cpg_loss

LABEL = torch.tensor([[[0, 0, 1, 1]] * 6 + [[2, 2, 2, 2]] * 4])
LOGITS = torch.randn(1, 3, 10, 4, generator=torch.Generator().manual_seed(0))


def test_arguments_reach_the_function(tmp_path):
    class_weight = [0.5, 1.0, 2.0]
    np.save(tmp_path / 'weight.npy', class_weight)
    weight = torch.rand(LABEL.shape, generator=torch.Generator().manual_seed(1))
    label = LABEL.masked_fill(LABEL == 2, 7)
    for given in (class_weight, str(tmp_path / 'weight.npy')):
        loss = CPGLoss(5, 3.0, True, 'as_background', given, 'sum')
        options = dict(ignore_index=7, ignore_policy='as_background', use_sigmoid=True, weight=weight)
        expected = 3 * cpg_loss(LOGITS, label, 5, class_weight=class_weight, reduction='sum', **options)
        assert torch.equal(loss(LOGITS, label, weight=weight, ignore_index=7), expected)
        expected = 3 * cpg_loss(LOGITS, label, 5, class_weight=class_weight, avg_factor=4, **options)
        actual = loss(LOGITS, label, weight=weight, avg_factor=4, reduction_override='mean', ignore_index=7)
        assert torch.equal(actual, expected)


@pytest.mark.parametrize('arguments', [dict(ksize=4), dict(ignore_policy='drop'), dict(use_sigmoid='False')])
def test_bad_arguments_are_refused_when_the_model_is_built(arguments):
    (value,) = arguments.values()
    with pytest.raises((TypeError, ValueError), match=f"got '?{value}'?"):
        CPGLoss(**arguments)


def test_warns_once_after_100_batches_without_boundary():
    loss, empty = CPGLoss(), torch.full_like(LABEL, 255)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(99):
            loss(LOGITS, empty)
        loss(LOGITS, LABEL)  # starts counting anew
        for _ in range(99):
            loss(LOGITS, empty)
    with pytest.warns(UserWarning, match="0 for 100 consecutive .*no boundary.*ignore_policy='as_background'"):
        loss(LOGITS, empty)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(200):
            loss(LOGITS, empty)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('num_channels', [1, 2])
def test_binary_labels_whose_class_is_void_get_other_advice(num_channels, fused):
    if fused and num_channels == 1:
        pytest.skip('the fused loss computes the softmax only')
    loss = CPGLoss()
    if fused:
        loss = CrossEntropyCPGLoss(dict(type='CrossEntropyLoss'), dict(type='CPGLoss'))
    expected = 'no boundary.* If 7, which is void here, marks the class, replace it with 1.* If void outlines objects, '
    with pytest.warns(UserWarning, match=expected):
        for _ in range(100):
            loss(LOGITS[:, :num_channels], 7 * (LABEL == 1), ignore_index=7)


def test_as_background_does_not_warn():
    loss = CPGLoss(ignore_policy='as_background')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(150):
            loss(LOGITS, torch.zeros_like(LABEL))


def test_streak_that_began_in_inference_mode_goes_on_in_training():
    streak = ZeroStreak()
    with torch.inference_mode():
        assert streak.update(torch.zeros(())) == 1
    assert not streak._on_host.is_inference()  # on CUDA the next update writes to it
    assert streak.update(torch.zeros(())) == 2
