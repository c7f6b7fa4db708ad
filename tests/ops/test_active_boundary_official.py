"""The Active Boundary Loss as its published code has it."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import active_boundary_loss, boundary_distance
from tests.inputs import blobs, random_logits
from tests.oracles import active_boundary_official as oracle

# A few dozen roundings, of terms that may be a hundred times as large as their sum.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}


def assert_is_that_of_the_oracle(logits, label, **options):
    error, count, gradient, gap = oracle.active_boundary_loss(logits.detach().numpy(), label.numpy(), **options)
    # Where rounding decides what is boundary, nothing can be compared.
    assume(gap > 1e-4)
    tolerance = TOLERANCE[logits.dtype]
    actual = active_boundary_loss(logits, label, reduction='none', preset='official', **options)
    torch.testing.assert_close(actual.detach().double(), torch.from_numpy(error), rtol=tolerance, atol=tolerance)
    loss = active_boundary_loss(logits, label, preset='official', **options)
    expected = error.sum() / max(count, 1)
    assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
    (actual,) = torch.autograd.grad(loss, logits)
    expected = torch.from_numpy(gradient) / max(count, 1)
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)
    return count


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_loss_and_gradient_are_those_of_the_oracle(data):
    num_classes = data.draw(st.sampled_from([1, 2, 3, 6]))
    shape = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 14)), data.draw(st.integers(1, 14))
    void = data.draw(st.sampled_from([0, 0, 0.02, 0.3, 1]))
    label = blobs(shape, max(num_classes, 2), void, seed=data.draw(st.integers(0, 2**32 - 1)))
    scale = data.draw(st.sampled_from([1, 8]))
    logits = random_logits(label, num_classes, scale, seed=data.draw(st.integers(0, 2**31)), dtype=torch.float64)
    assert_is_that_of_the_oracle(
        logits,
        label,
        boundary_ratio=data.draw(st.sampled_from([0.01, 0.1, 0.5, 1])),
        max_distance=data.draw(st.sampled_from([20, 3.0])),
        label_smoothing=data.draw(st.sampled_from([0.2, 0, 1])),
    )


@pytest.mark.parametrize('num_classes', [1, 5])
def test_float32(num_classes):
    label = blobs((2, 31, 37), max(num_classes, 2), 0.003)
    assert assert_is_that_of_the_oracle(random_logits(label, num_classes), label, boundary_ratio=0.05) > 30


def test_the_gradient_is_the_slope_of_the_error_with_constant_neighbors():
    label = blobs((1, 12, 13), 3)
    logits = random_logits(label, 3, dtype=torch.float64)
    options = dict(boundary_ratio=0.2, reduction='none', preset='official')
    error = active_boundary_loss(logits, label, **options)
    (gradient,) = torch.autograd.grad(error.sum(), logits)
    step, checked = 1e-6, 0
    for y, x in error.detach()[0].nonzero().tolist():
        for c in range(3):
            ends = []
            for sign in (1, -1):
                moved = logits.detach().clone()
                moved[0, c, y, x] += sign * step
                ends.append(active_boundary_loss(moved, label, **options)[0, y, x].item())
            slope = (ends[0] - ends[1]) / (2 * step)
            if all(ends):  # the pixel is in B at both ends
                assert gradient[0, c, y, x].item() == pytest.approx(slope, abs=1e-7)
                checked += 1
    assert checked > 30


def test_an_image_without_boundary_counts_nothing():
    label = blobs((2, 24, 24), 3)
    label[1] = 2
    logits = random_logits(label, 3)
    loss = active_boundary_loss(logits, label, boundary_ratio=0.1, preset='official', reduction='none')
    assert loss[0].sum() > 0
    assert loss[1].abs().sum() == 0
    alone = active_boundary_loss(logits, torch.full_like(label, 2), boundary_ratio=0.1, preset='official')
    assert alone == 0
    assert torch.autograd.grad(alone, logits)[0].abs().sum() == 0


def test_confident_logits_stay_finite():
    label = blobs((1, 24, 24), 3)
    logits = random_logits(label, 3, 1e4)
    loss = active_boundary_loss(logits, label, boundary_ratio=0.1, preset='official')
    assert loss > 0
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_it_differs_from_the_paper():
    label = blobs((2, 24, 24), 3)
    logits = random_logits(label, 3)
    gradients = [
        torch.autograd.grad(active_boundary_loss(logits, label, boundary_ratio=0.1, preset=preset), logits)[0]
        for preset in ('paper', 'official')
    ]
    assert (gradients[0] - gradients[1]).norm() > 0.1 * gradients[0].norm()


def test_bad_arguments():
    label = blobs((1, 8, 8), 3)
    logits = random_logits(label, 3)
    with pytest.raises(ValueError, match=r"preset must be one of .*, got 'other'"):
        active_boundary_loss(logits, label, preset='other')
    with pytest.raises(ValueError, match="distance must be None with preset='official'"):
        active_boundary_loss(logits, label, preset='official', distance=boundary_distance(label))
