import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmseg_cpg.ops import boundary_f1_loss
from tests.inputs import blobs, random_logits
from tests.ops.cpg.test_loss import assert_close
from tests.oracles import boundary_f1_loss as oracle

# The score is made of sums of y^b, differences of probabilities that carry a few roundings of 6e-8 each. With logits
# of size 2 these are around 0.1, so that errors stay far below this bound.
RELATIVE_ERROR = 2e-5


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('num_classes', 'void'), [(1, 0), (1, 0.1), (2, 0.05), (4, 0), (4, 0.1)])
@pytest.mark.parametrize(('theta0', 'theta'), [(3, 5), (5, 1)])
def test_loss_and_gradient_are_those_of_the_oracle(num_classes, void, theta0, theta, seed):
    shape = (2, *np.random.default_rng(seed).integers(4, 14, 2))
    label = blobs(shape, max(num_classes, 2), void, seed)
    logits = random_logits(label, num_classes, seed=seed)
    expected, expected_gradient = oracle.boundary_f1_loss(logits.detach().numpy(), label.numpy(), theta0, theta)
    loss = boundary_f1_loss(logits, label, theta0, theta)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), expected, tolerance=RELATIVE_ERROR)
    assert_close(gradient, expected_gradient, tolerance=RELATIVE_ERROR)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_gradcheck(num_classes):
    label = blobs((1, 7, 6), max(num_classes, 2), void=0.05)
    logits = random_logits(label, num_classes, dtype=torch.float64)
    assert boundary_f1_loss(logits, label).dtype == torch.float64
    # Random numbers have no ties within gradcheck's step.
    assert torch.autograd.gradcheck(lambda logits: boundary_f1_loss(logits, label), logits)


def half_and_half(column, size=20):
    """Class 0 on the left, class 1 from a column on."""
    label = torch.zeros(1, size, size, dtype=torch.int64)
    label[:, :, column:] = 1
    return label


def certain(label, num_classes=2):
    return 1000.0 * (F.one_hot(label, num_classes).movedim(3, 1) - 0.5)


@pytest.mark.parametrize(
    ('theta', 'displacement_px', 'expected'),
    [(5, 0, 0), (5, 2, 0), (5, 3, 1), (3, 1, 0), (3, 2, 1), (1, 0, 0), (1, 1, 1)],
)
def test_displacement_within_theta_is_free(theta, displacement_px, expected):
    label = half_and_half(8)
    assert boundary_f1_loss(certain(half_and_half(8 + displacement_px)), label, theta=theta).item() == expected


def test_score_by_hand():
    """Of 20 boundary pixels and 30 predicted ones, 10 agree in class 1, and 11 in class 0 (where the edge jumps)."""
    predicted = half_and_half(5)
    predicted[:, 10:] = half_and_half(15)[:, 10:]
    loss = boundary_f1_loss(certain(predicted), half_and_half(5), theta=1)
    assert loss.item() == pytest.approx(1 - (2 * 10 / 50 + 2 * 11 / 50) / 2)


def test_absent_classes_and_classes_without_boundary_do_not_count():
    label = half_and_half(8)
    logits = random_logits(label, 2).detach()
    padded = torch.cat([logits, torch.full((1, 3, 20, 20), -1000.0)], 1)
    expected = boundary_f1_loss(logits, label)
    assert torch.equal(boundary_f1_loss(padded, label), expected)
    one_class = torch.zeros_like(label)
    both = boundary_f1_loss(torch.cat([logits, logits]), torch.cat([label, one_class]))
    assert torch.equal(both, expected)
    assert boundary_f1_loss(logits, one_class) == 0


def test_a_rim_along_void_is_no_boundary():
    label = half_and_half(8)
    label[:, 5:9] = 255
    assert boundary_f1_loss(certain(half_and_half(8)), label) == 0
    label = torch.where(half_and_half(8) == 1, 255, 0)
    logits = random_logits(label, 2)
    loss = boundary_f1_loss(logits, label)
    assert loss == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_nothing_predicted_is_a_score_of_0_with_finite_gradient():
    label = half_and_half(8)
    for scale in (0.0, 1e-3, 1000.0):
        logits = certain(torch.zeros_like(label)) * scale / 1000
        logits.requires_grad_()
        loss = boundary_f1_loss(logits, label)
        assert loss == 1
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_nan_is_seen():
    label = blobs((1, 16, 16), 3)
    logits = random_logits(label, 3).detach()
    logits[0, 1, 4, 4] = float('nan')
    assert boundary_f1_loss(logits, label).isnan()


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(theta0=1), ValueError, 'theta0 must be >= 3, got 1'),
        (dict(theta0=4), ValueError, 'theta0 must be odd, got 4'),
        (dict(theta=2), ValueError, 'theta must be odd, got 2'),
        (dict(theta=5.0), TypeError, 'theta must be an int, got 5.0'),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        boundary_f1_loss(torch.zeros(1, 2, 20, 20), half_and_half(8), **changes)
