import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import cpg_loss, sobel_loss
from tests.inputs import blobs, random_logits
from tests.ops.cpg.test_loss import CANCELLATION, assert_close
from tests.oracles import sobel_loss as oracle
from tests.oracles.cpg_loss import squared_error


def oracle_loss(logits, label, ksize, weight=None, class_weight=None):
    """Mean loss, its gradient, the gradient's size before cancellation, in float64, N and e."""
    entries = oracle.entries(label.numpy(), ksize, logits.shape[1])
    upstream = np.ones(label.shape) if weight is None else weight.numpy()
    error, gradient, size = squared_error(
        logits.detach().double().numpy(), entries, ksize, False, class_weight, upstream
    )
    count = max(len(entries), 1)
    loss = (upstream * error).sum() / count
    return loss, torch.from_numpy(gradient / count), torch.from_numpy(size / count), count, torch.from_numpy(error)


@st.composite
def cases(draw):
    num_classes = draw(st.sampled_from([1, 2, 4]))
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 8)), draw(st.integers(1, 8))
    void = draw(st.sampled_from([0, 0, 0.03, 1]))
    label = blobs(shape, max(num_classes, 2), void, seed=draw(st.integers(0, 2**32 - 1)))
    logits = random_logits(label, num_classes, draw(st.sampled_from([0, 1, 30])), seed=draw(st.integers(0, 2**31)))
    return logits, label, draw(st.sampled_from([3, 5, 7]))


@settings(max_examples=25, deadline=None)
@given(cases())
def test_loss_and_gradient_are_those_of_the_oracle(case):
    logits, label, ksize = case
    expected, expected_gradient, size, count, _ = oracle_loss(logits, label, ksize)
    loss = sobel_loss(logits, label, ksize)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    # As in test_cpg_loss: where Ĝ - G cancels, each difference is off by up to delta; an element of the gradient, a sum
    # of 2 S (Ĝ - G) / N over both directions with sum(|S|) below 3k, by up to 12k delta / N.
    delta = 4 * ksize * torch.finfo(torch.float32).eps
    assert abs(loss.item() - expected) <= 2e-5 * expected + 2 * delta * expected**0.5 + delta**2
    assert_close(gradient, expected_gradient, size + 12 * ksize * delta / count / CANCELLATION)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_weights_and_reductions(num_classes):
    label = blobs((2, 9, 11), max(num_classes, 2), void=0.01)
    logits = random_logits(label, num_classes)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    class_weight = [0.5, 2.0, 1.5][:num_classes]
    options = dict(weight=weight, class_weight=class_weight)
    expected, expected_gradient, _, _, error = oracle_loss(logits, label, 3, **options)
    error = weight * error
    assert_close(sobel_loss(logits, label, **options).detach(), expected)
    assert_close(sobel_loss(logits, label, reduction='none', **options).detach(), error)
    assert_close(sobel_loss(logits, label, reduction='sum', **options).detach(), error.sum())
    assert_close(sobel_loss(logits, label, avg_factor=7, **options).detach(), error.sum() / 7)
    (gradient,) = torch.autograd.grad(-3 * sobel_loss(logits, label, **options), logits)
    assert_close(gradient, -3 * expected_gradient)


@pytest.mark.parametrize('num_classes', [1, 3])
@pytest.mark.parametrize('ksize', [3, 7])
def test_gradcheck(num_classes, ksize):
    label = blobs((1, 7, 8), max(num_classes, 2), void=0.01)
    logits = random_logits(label, num_classes, dtype=torch.float64)
    assert sobel_loss(logits, label, ksize).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda logits: sobel_loss(logits, label, ksize, reduction='none'), logits)


def test_at_boundary_entries_it_is_the_cpg_loss():
    """Where prediction and label are constant away from the label's boundary, the mask of CPG drops nothing but 0."""
    label = torch.zeros(1, 12, 12, dtype=torch.int64)
    label[:, :, 6:] = 1
    logits = torch.tensor([[1.0, -1.0], [-2.0, 0.5]])[:, label].movedim(0, 1).contiguous()
    assert_close(sobel_loss(logits, label, reduction='sum'), cpg_loss(logits, label, reduction='sum'))


def test_a_perfect_prediction_costs_nothing_whatever_lies_in_the_void():
    label = blobs((1, 32, 32), 3)
    logits = 1000.0 * (F.one_hot(label, 3).movedim(3, 1) - 0.5)
    label[:, 10:14, 8:20] = 255
    logits[:, 0, 10:14, 8:20] = 1e6
    assert sobel_loss(logits, label, 5) == 0


def test_noise_away_from_every_boundary_costs():
    label = torch.zeros(1, 9, 9, dtype=torch.int64)
    logits = torch.zeros(1, 2, 9, 9)
    logits[:, 0] = 1000
    assert sobel_loss(logits, label) == 0
    logits[0, :, 4, 4] = torch.tensor([0.0, 1000.0])
    # By hand: a single wrong pixel has gradients of 1/2, 1, 1/2 on each of four sides, in both classes.
    assert sobel_loss(logits, label, reduction='sum').item() == 2 * 4 * (0.25 + 1 + 0.25)


def test_nan_in_the_loss_is_seen_and_elsewhere_inert():
    label = blobs((1, 16, 16), 3)
    label[:, :, 10:12] = 255
    logits = random_logits(label, 3).detach()
    spoiled = logits.clone()
    spoiled[0, 1, 4, 4] = float('nan')
    assert sobel_loss(spoiled, label).isnan()
    label[:, :, 13:] = 255
    expected = sobel_loss(logits, label)
    logits[0, :, :, 12] = float('nan')  # a column between void columns, in no counted window
    logits.requires_grad_()
    loss = sobel_loss(logits, label)
    assert torch.equal(loss, expected)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(ksize=4), ValueError, r'ksize must be odd and in \[3, 11\], got 4'),
        (dict(reduction='max'), ValueError, "reduction must be one of .*, got 'max'"),
        (dict(weight=torch.ones(4, 4)), ValueError, r'weight must have shape \(1, 4, 4\), got \(4, 4\)'),
        (dict(class_weight=[1.0]), ValueError, r'class_weight must have shape \(2,\), got \(1,\)'),
        (dict(avg_factor=2, reduction='sum'), ValueError, "avg_factor cannot be used with reduction='sum'"),
    ],
)
def test_bad_input(changes, error, message):
    label = torch.tensor([[[0, 0, 1, 1]] * 4])
    with pytest.raises(error, match=message):
        sobel_loss(torch.zeros(1, 2, 4, 4), label, **changes)
