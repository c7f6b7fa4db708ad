import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import active_boundary_loss, boundary_distance
from tests.inputs import blobs, random_logits
from tests.oracles import active_boundary_loss as oracle

# A KL sums C products with a few roundings each, of numbers that may be 100 times as large as their sum; softmax and
# cross-entropy add a few. In float64 the distance is what is off: it is float32.
RELATIVE_ERROR = {torch.float64: 2**-24, torch.float32: 2e-5}
# Where the terms of a gradient cancel, its error is measured against their size before they do.
CANCELLATION = 64


def assert_close(actual, expected, dtype=torch.float32, size=0.0):
    actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
    assert actual.shape == expected.shape
    canceled = CANCELLATION * torch.finfo(dtype).eps * torch.as_tensor(size).norm()
    assert (actual - expected).norm() <= RELATIVE_ERROR[dtype] * expected.norm() + canceled


def of_oracle(logits, label, **options):
    error, count, gradient, size = oracle.active_boundary_loss(logits.detach().numpy(), label.numpy(), **options)
    return torch.from_numpy(error), count, torch.from_numpy(gradient), torch.from_numpy(size)


@st.composite
def cases(draw):
    num_classes = draw(st.sampled_from([1, 2, 3, 6]))
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 16)), draw(st.integers(1, 16))
    void = draw(st.sampled_from([0, 0, 0.02, 0.3, 1]))
    label = blobs(shape, max(num_classes, 2), void, seed=draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0, 1, 8]))
    logits = random_logits(label, num_classes, scale, seed=draw(st.integers(0, 2**31)), dtype=torch.float64)
    options = dict(
        boundary_ratio=draw(st.sampled_from([0.01, 0.1, 0.5, 1])),
        max_distance=draw(st.sampled_from([20, 3.0])),
        label_smoothing=draw(st.sampled_from([0.2, 0, 1])),
    )
    return logits, label, options


@settings(max_examples=60, deadline=None)
@given(cases())
def test_loss_and_gradient_are_those_of_the_oracle(case):
    logits, label, options = case
    error, count, gradient, size = of_oracle(logits, label, **options)
    actual = active_boundary_loss(logits, label, reduction='none', **options)
    assert torch.equal(actual != 0, error != 0)
    assert_close(actual.detach(), error, torch.float64)
    loss = active_boundary_loss(logits, label, **options)
    assert loss.dtype == torch.float64
    assert_close(loss.detach(), error.sum() / max(count, 1), torch.float64)
    (actual,) = torch.autograd.grad(loss, logits)
    assert_close(actual, gradient / max(count, 1), torch.float64, size / max(count, 1))


@pytest.mark.parametrize('num_classes', [1, 2, 5])
def test_float32(num_classes):
    label = blobs((2, 23, 31), max(num_classes, 2), 0.003)
    logits = random_logits(label, num_classes)
    error, count, gradient, size = of_oracle(logits, label)
    assert count > 30
    loss = active_boundary_loss(logits, label)
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), error.sum() / count)
    assert_close(torch.autograd.grad(loss, logits)[0], gradient / count, size=size / count)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_gradient_is_the_slope_with_constant_neighbors(num_classes):
    """As gradcheck, which cannot be used: other pixels' errors change too where a pixel of this one's window does."""
    label = blobs((1, 12, 13), max(num_classes, 2))
    logits = random_logits(label, num_classes, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(active_boundary_loss(logits, label, boundary_ratio=0.05, reduction='sum'), logits)
    p = oracle.probability(logits.detach().numpy())[0]
    squared = oracle.squared_distance(label[0].numpy())
    step, pixels = 1e-6, oracle.counted_pixels(p, label[0].numpy(), 0.05)
    inside = [(y, x) for y, x in pixels if 0 < y < 11 and 0 < x < 12]
    assert len(inside) > 5
    for y, x in inside:
        neighbors = [p[:, y + v, x + u] for v, u in oracle.NEIGHBORS]
        direction = int(np.argmin([squared[y + v, x + u] for v, u in oracle.NEIGHBORS]))
        for c in range(num_classes):
            ends = []
            for sign in (1, -1):
                moved = logits.detach().numpy()[0, :, y, x].copy()
                moved[c] += sign * step
                ends.append(oracle.direction_error(moved, neighbors, direction, squared[y, x] ** 0.5 / 20, 0.2))
            # Differences of second order have an error of step^2 and of rounding, eps / step.
            assert gradient[0, c, y, x].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_weights_and_reductions():
    label = blobs((2, 23, 31), 3, 0.003)
    logits = random_logits(label, 3)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    error, count, _, _ = of_oracle(logits, label)
    _, _, gradient, size = of_oracle(logits, label, upstream=weight.numpy())
    assert_close(active_boundary_loss(logits, label, reduction='none', weight=weight).detach(), weight * error)
    assert_close(active_boundary_loss(logits, label, reduction='sum', weight=weight).detach(), (weight * error).sum())
    for avg_factor, divisor in ((None, count), (7, 7), (torch.tensor(7.0), 7)):
        loss = active_boundary_loss(logits, label, weight=weight, avg_factor=avg_factor)
        assert_close(loss.detach(), (weight * error).sum() / divisor)
    (actual,) = torch.autograd.grad(-3 * active_boundary_loss(logits, label, weight=weight), logits)
    assert_close(actual, -3 * gradient / count, size=3 * size / count)


def edges(label_column, predicted_column, width=40):
    """A label and logits of two classes that meet at those columns."""
    label = (torch.arange(width) >= label_column).long().expand(1, 12, -1)
    predicted = (torch.arange(width) >= predicted_column).long().expand(1, 12, -1)
    return label, 4.0 * F.one_hot(predicted, 2).movedim(3, 1)


@pytest.mark.parametrize(('label_column', 'predicted_column'), [(10, 22), (25, 14)])
def test_the_predicted_boundary_moves_to_that_of_the_label(label_column, predicted_column):
    label, logits = edges(label_column, predicted_column)
    logits += 0.01 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(60):
        logits.requires_grad_()
        loss = active_boundary_loss(logits, label, boundary_ratio=0.1, reduction='sum')
        logits = (logits - 2 * torch.autograd.grad(loss, logits)[0]).detach()
    assert (logits.argmax(1) != label).float().sum(2).mean() < abs(predicted_column - label_column) - 3


def test_fewer_than_the_ratio_of_the_pixels_are_boundary():
    label = torch.zeros(1, 40, 50, dtype=torch.int64)
    label[0, 0, 0] = 1
    logits = random_logits(label, 3)
    # Dilation at most makes nine of one.
    for ratio, most in ((0.01, 19), (0.0101, 20), (0.002, 3), (0.0005, 0)):
        counted = (active_boundary_loss(logits, label, boundary_ratio=ratio, reduction='none') != 0).sum()
        assert 6 * most < counted <= 9 * most or most == counted == 0


@pytest.mark.parametrize(
    ('label', 'scale'),
    [
        (torch.zeros(2, 20, 20, dtype=torch.int64), 1),  # no boundary in the label
        (blobs((2, 20, 20), 3), 0),  # none in the prediction
        (blobs((2, 20, 20), 3), 1e-4),  # nor here, but noise
        (torch.full((2, 20, 20), 255), 1),
        (blobs((2, 20, 20), 3, void=0.9), 1),  # void next to every pixel
        (blobs((2, 10, 10), 3), 1),  # one pixel is not less than 1 %
        (torch.zeros(0, 20, 20, dtype=torch.int64), 1),
    ],
)
def test_nothing_to_learn_from_is_zero(label, scale):
    logits = random_logits(label, 3, scale)
    loss = active_boundary_loss(logits, label)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert not gradient.any()


def test_an_image_without_boundary_in_a_batch_with_one_that_has_it():
    label = torch.cat([blobs((1, 20, 24), 3), torch.zeros(1, 20, 24, dtype=torch.int64)])
    logits = random_logits(label, 3)
    assert torch.equal(active_boundary_loss(logits, label), active_boundary_loss(logits[:1], label[:1]))


def test_a_precomputed_distance_gives_the_same():
    label = blobs((2, 40, 50), 4, 0.002)
    logits = random_logits(label, 4)
    results = []
    of_images = torch.stack([boundary_distance(each) for each in label])
    strided = of_images.mT.contiguous().mT
    for distance in (None, boundary_distance(label), of_images, strided):
        loss = active_boundary_loss(logits, label, distance=distance)
        results.append((loss, *torch.autograd.grad(loss, logits)))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_a_device_is_not_waited_for():
    """On the meta device tensors have no values: what needs them, as .item() or a mask's True pixels do, raises."""
    logits = torch.empty(2, 4, 32, 40, device='meta', requires_grad=True)
    label = torch.empty(2, 32, 40, dtype=torch.int64, device='meta')
    active_boundary_loss(logits, label, distance=torch.empty(2, 32, 40, device='meta')).backward()
    assert logits.grad.shape == logits.shape


def test_where_a_gpu_takes_more_pixels_than_count(monkeypatch):
    label = blobs((2, 40, 50), 4, 0.002)
    logits = random_logits(label, 4)
    expected = active_boundary_loss(logits, label)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    module = importlib.import_module('mmseg_cpg.ops.active_boundary')
    monkeypatch.setattr(module, '_true_pixels', module._first_pixels)
    void = (label == 255)[:, None].expand_as(logits)
    logits = logits.detach().masked_fill(void, torch.nan).requires_grad_()
    loss = active_boundary_loss(logits, label)
    assert_close(loss.detach(), expected.detach())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient != 0, expected_gradient != 0)
    assert_close(gradient, expected_gradient)


LABEL = blobs((1, 20, 20), 3)
LOGITS = random_logits(LABEL, 3).detach()


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(boundary_ratio=0), ValueError, r'boundary_ratio must be a number in \(0, 1\], got 0'),
        (dict(boundary_ratio=1.5), ValueError, r'boundary_ratio must be a number in \(0, 1\], got 1.5'),
        (dict(boundary_ratio='1%'), TypeError, r"boundary_ratio must be a number in \(0, 1\], got '1%'"),
        (dict(max_distance=0), ValueError, r'max_distance must be a number in \(0, inf\), got 0'),
        (dict(max_distance=float('nan')), ValueError, r'max_distance must be a number in \(0, inf\), got nan'),
        (dict(max_distance=float('inf')), ValueError, r'max_distance must be a number in \(0, inf\), got inf'),
        (dict(label_smoothing=-0.1), ValueError, r'label_smoothing must be a number in \[0, 1\], got -0.1'),
        (dict(label_smoothing=True), TypeError, r'label_smoothing must be a number in \[0, 1\], got True'),
        (dict(distance=torch.ones(1, 20, 19)), ValueError, r'distance must have shape .* got \(1, 20, 19\)'),
        (dict(avg_factor=-1), ValueError, 'avg_factor must be >= 0, got -1'),
        (dict(avg_factor=1, reduction='sum'), ValueError, "avg_factor cannot be used with reduction='sum', got .*=1"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        active_boundary_loss(LOGITS, LABEL, **options)


def test_nan_logits_that_are_not_void_are_seen():
    label = torch.zeros(1, 20, 20, dtype=torch.int64)
    label[..., 10:] = 1
    for logits in (torch.full((1, 2, 20, 20), float('nan')), torch.randn(1, 2, 20, 20)):
        logits[0, 0, 5, 5] = float('nan')
        assert active_boundary_loss(logits, label).isnan()
