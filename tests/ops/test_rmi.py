from math import log
from sys import modules

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import rmi_loss
from tests.inputs import blobs, random_logits
from tests.oracles import rmi_loss as oracle

PRESETS = ['official', 'paper']
# Value of the loss less the paper's, for each class: -log(xi) / 2.
CONSTANT = {'official': -log(5e-4) / 2, 'paper': -log(1e-6) / 2}


def oracle_loss(logits, label, preset, **options):
    """The loss of each image and class, with the constant, and the gradient of their sum."""
    loss, gradient = oracle.rmi_loss(logits.detach().double().numpy(), label.numpy(), preset, **options)
    factor = np.asarray(options.get('class_weight', 1.0))
    return torch.from_numpy(loss + factor * CONSTANT[preset]), torch.from_numpy(gradient)


def assert_close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert (actual.double() - expected).norm() <= tolerance * (expected.norm() + 0.01)


@st.composite
def cases(draw, dtype):
    num_classes = draw(st.sampled_from([1, 2, 3, 5]))
    label = blobs(
        (draw(st.integers(1, 2)), draw(st.integers(1, 26)), draw(st.integers(1, 26))),
        max(num_classes, 2),
        void=draw(st.sampled_from([0, 0, 0.05, 0.5, 1])),
        seed=draw(st.integers(0, 2**32 - 1)),
        cell=draw(st.sampled_from([1, 3, 5, 50])),
    )
    scale = draw(st.sampled_from([0, 1, 10]))
    logits = random_logits(label, num_classes, scale, seed=draw(st.integers(0, 2**31)), dtype=dtype)
    if draw(st.booleans()):  # a prediction that knows the label
        logits = (logits + 5 * (label[:, None] == torch.arange(num_classes)[:, None, None])).detach().requires_grad_()
    options = dict(radius=draw(st.sampled_from([1, 2, 3])), pool_size=draw(st.sampled_from([None, None, 1, 2, 5])))
    return logits, label, draw(st.sampled_from(PRESETS)), options


# Rounding of what is summed up, u = 1.1e-16 times h w / 4 <= 170 at most, is divided by xi: 4e-11, or 3e-11 with the
# paper's xi, for each of 18 coordinates. In 2,000 cases the largest errors were 3e-11 and, of gradients, 2e-10.
@settings(max_examples=150, deadline=None)
@given(cases(torch.float64))
def test_loss_and_gradient_are_those_of_the_oracle(case):
    logits, label, preset, options = case
    expected, expected_gradient = oracle_loss(logits, label, preset, **options)
    loss = rmi_loss(logits, label, preset, reduction='sum', **options)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float64
    assert_close(loss.detach(), expected.sum(), 1e-8)
    assert_close(gradient, expected_gradient, 1e-8)


# P is off by about u = 6e-8, its points by at most twice that; what the regression makes of it is largest where the
# prediction knows the label nearly. In 2,000 cases the largest errors were 2e-6 and, of gradients, 2e-3.
@settings(max_examples=60, deadline=None)
@given(cases(torch.float32))
def test_float32_logits(case):
    logits, label, preset, options = case
    expected, expected_gradient = oracle_loss(logits, label, preset, **options)
    loss = rmi_loss(logits, label, preset, reduction='sum', **options)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), expected.sum(), 1e-5)
    assert_close(gradient, expected_gradient, 1e-2)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_weights_and_reductions(num_classes):
    label = blobs((2, 20, 26), max(num_classes, 2), void=0.02)
    logits = random_logits(label, num_classes, dtype=torch.float64)
    class_weight = [0.5, 2.0, 0.0][:num_classes]
    expected, expected_gradient = oracle_loss(logits, label, 'official', class_weight=class_weight)
    for options, divisor in [
        (dict(), 2),
        (dict(reduction='sum'), 1),
        (dict(avg_factor=7), 7),
        (dict(avg_factor=torch.tensor(7)), 7),
        (dict(class_weight=torch.tensor(class_weight)), 2),
    ]:
        loss = rmi_loss(logits, label, **{'class_weight': class_weight, **options})
        assert_close(loss.detach(), expected.sum() / divisor, 1e-8)
        (gradient,) = torch.autograd.grad(-3 * loss, logits)
        assert_close(gradient, -3 * expected_gradient / divisor, 1e-8)


@pytest.mark.parametrize('preset', PRESETS)
@pytest.mark.parametrize('num_classes', [1, 3])
def test_gradcheck(preset, num_classes):
    label = blobs((1, 11, 12), max(num_classes, 2), void=0.02)
    logits = random_logits(label, num_classes, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda logits: rmi_loss(logits, label, preset, radius=2), logits)


@pytest.mark.parametrize('preset', PRESETS)
def test_what_predictions_cost(preset):
    label = torch.zeros(1, 60, 60, dtype=torch.int64)
    label[:, 20:45, 10:40] = 1
    right = 1000 * (F.one_hot(label, 3).movedim(3, 1) - 0.5)
    constant = torch.tensor([-2.0, 0.3, 1.5]).view(3, 1, 1).expand_as(right).clone().requires_grad_()
    perfect = rmi_loss(right, label, preset)
    # The third class is in no image.
    assert 0 < perfect <= 2 * log(2) / 2
    torch.testing.assert_close(
        rmi_loss(-right, label, preset, pool_size=1), rmi_loss(right, label, preset, pool_size=1)
    )
    loss = rmi_loss(constant, label, preset)
    (gradient,) = torch.autograd.grad(loss, constant)
    assert loss > 10 * perfect
    assert gradient.abs().max() < 1e-6
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(0))
    assert rmi_loss(noise, label, preset, class_weight=[0, 0, 1]) == 0


@pytest.mark.parametrize('preset', PRESETS)
@pytest.mark.parametrize('size', [(1, 1), (1, 40), (5, 5), (11, 3)])
def test_image_smaller_than_a_square_is_zero_with_zero_gradient(preset, size):
    label = blobs((2, *size), 3, cell=1)
    logits = random_logits(label, 3, scale=1e300, dtype=torch.float64)
    with pytest.warns(UserWarning, match=f'of images of {size[0]} x {size[1]} pixels is 0: after pooling by '):
        loss = rmi_loss(logits, label, preset, radius=4)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize('size', [3, 1e3, 2.25e6, 1e10])
def test_log_det_of_singular_matrices(size):
    """All coordinates of the points the same: det(I + s J) = 1 + 18 s for 18 of them, 1 + 9 s for those of P alone."""
    scatter = torch.full((1, 18, 18), size, dtype=torch.float64)
    exact = (log(1 + 18 * size / 5e-4) - log(1 + 9 * size / 5e-4)) / 18
    # Rounding changes the eigenvalue 1 by u s / xi at most: half of itself for the largest size, above any image's.
    rounding = 2.0**-53 * size / 5e-4
    actual = modules['mmseg_cpg.ops.rmi']._log_det(scatter, 5e-4)
    assert actual.item() == pytest.approx(exact, rel=1e-9, abs=2 * rounding)


def test_nan_logits_are_seen_unless_void():
    label = blobs((1, 24, 24), 3)
    label[:, 15:] = 255
    logits = random_logits(label, 3).detach()
    expected = rmi_loss(logits, label)
    logits[:, 1, 20, 20] = torch.nan
    assert torch.equal(rmi_loss(logits, label), expected)
    logits[:, 1, 4, 4] = torch.nan
    logits.requires_grad_()
    loss = rmi_loss(logits, label)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isnan()
    assert gradient[:, 1].isnan().any()
    assert gradient[:, [0, 2]].isfinite().all()


LABEL = torch.tensor([[[0, 0, 1, 1]] * 4])
LOGITS = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(preset='default'), ValueError, "preset must be one of .*'official', 'paper'.*, got 'default'"),
        (dict(radius=0), ValueError, 'radius must be >= 1, got 0'),
        (dict(radius=1.5), TypeError, 'radius must be an int, got 1.5'),
        (dict(pool_size=0), ValueError, 'pool_size must be >= 1, got 0'),
        (dict(pool_size='3'), TypeError, "pool_size must be an int, got '3'"),
        (
            dict(reduction='none'),
            ValueError,
            "reduction must be 'mean' or 'sum', got 'none': RMI is not a per-pixel loss",
        ),
        (dict(reduction='max'), ValueError, "reduction must be one of .*, got 'max'"),
        (dict(class_weight=[1.0]), ValueError, r'class_weight must have shape \(2,\), got \(1,\)'),
        (dict(avg_factor=2, reduction='sum'), ValueError, "avg_factor cannot be used with reduction='sum'"),
        (dict(avg_factor=-1), ValueError, 'avg_factor must be >= 0, got -1'),
        (dict(logits=LOGITS[0]), ValueError, r'logits must have shape \(B, C, H, W\) .*, got \(2, 4, 4\)'),
        (dict(label=LABEL * 2), ValueError, r'label must be in \[0, 2\) or ignore_index=255, got 2'),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        rmi_loss(**{'logits': LOGITS, 'label': LABEL, **changes})
