import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import locally_adaptive_loss
from tests import inputs
from tests.inputs import random_logits
from tests.oracles import locally_adaptive_loss as oracle

# Standard scores carry a few roundings of 6e-8 and are bounded by sqrt(C - 1); a window adds up to 121 of them, whose
# weights' sum over xi is at most 2, and softmax and power add a few roundings each: L^S is off by about 1e-6 and its
# power mean by no more. A gradient's terms carry the same relative errors and may cancel, so it is compared by norm.
ABSOLUTE_ERROR = 2e-6
RELATIVE_ERROR = 2e-5

# Cells that the windows reach beyond.
blobs = partial(inputs.blobs, cell=3)


def oracle_loss(logits, label, *args, **options):
    values, gradient = oracle.loss(logits.detach().double().numpy(), label.numpy(), *args, **options)
    values = [value for value in values if value is not None]
    return sum(values) / max(len(values), 1), torch.from_numpy(gradient)


def assert_close(actual, expected, relative=RELATIVE_ERROR, absolute=ABSOLUTE_ERROR):
    actual, expected = torch.as_tensor(actual).detach().double(), torch.as_tensor(expected).double()
    assert actual.shape == expected.shape
    assert (actual - expected).norm() <= relative * expected.norm() + absolute


@st.composite
def cases(draw):
    num_classes = draw(st.sampled_from([3, 4, 7]))
    label = blobs(
        (draw(st.integers(1, 2)), draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        num_classes,
        void=draw(st.sampled_from([0, 0, 0.1, 0.6, 1])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    logits = random_logits(label, num_classes, draw(st.sampled_from([0, 1e-4, 1, 30])), draw(st.integers(0, 2**31)))
    options = dict(
        ksize=draw(st.sampled_from([3, 5, 7, 11])),
        stride=draw(st.sampled_from([1, 1, 2, 3, 20])),
        power=draw(st.sampled_from([1, 1.5, 3, 5])),
    )
    return logits, label, options


@settings(max_examples=60, deadline=None)
@given(cases())
def test_loss_and_gradient_are_those_of_the_oracle(case):
    logits, label, options = case
    expected, expected_gradient = oracle_loss(logits, label, **options)
    loss = locally_adaptive_loss(logits, label, **options)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - expected) <= ABSOLUTE_ERROR + RELATIVE_ERROR * expected
    # Where all logits are the same, 1 / deviation is 316 and multiplies the rounding of f too.
    assert_close(gradient, expected_gradient, absolute=ABSOLUTE_ERROR if logits.std() < 1e-3 else 1e-7)


def test_worked_out_by_hand():
    """A 2x2 image: three pixels of class 0, one of class 2, and scores sqrt(3/2) * (1, 0, -1) everywhere."""
    label = torch.tensor([[[0, 0], [0, 2]]])
    logits = torch.tensor([1000.0, 0.0, -1000.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    a = math.sqrt(1.5)
    of_class_0 = math.log(1 + math.exp(-4 / 3 * a) + math.exp(-8 / 3 * a))  # weights 2, 1, 1 over xi = 3
    of_class_2 = math.log(1 + math.exp(2 * a) + math.exp(4 * a))  # weight 2 over xi = 1
    error = locally_adaptive_loss(logits, label, 3, reduction='none')
    assert_close(error, [[[of_class_0, of_class_0], [of_class_0, of_class_2]]])
    expected = ((3 * of_class_0**3 + of_class_2**3) / 4) ** (1 / 3)
    assert_close(locally_adaptive_loss(logits, label, 3), expected)


@pytest.mark.parametrize('stride', [1, 2])
def test_reductions_and_weights(stride):
    label = blobs((3, 7, 8), 4, void=0.1)
    label[1] = 255
    logits = random_logits(label, 4)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    error, _ = oracle.local_errors(logits.detach().double().numpy(), label.numpy(), 5, stride)
    values, _ = oracle.loss(logits.detach().double().numpy(), label.numpy(), 5, stride, weight=weight.double().numpy())
    assert [value is None for value in values] == [False, True, False]
    total = values[0] + values[2]
    options = dict(ksize=5, stride=stride, weight=weight)

    actual = locally_adaptive_loss(logits, label, reduction='none', **options)
    assert_close(actual, weight[:, ::stride, ::stride] * error)
    assert torch.equal(locally_adaptive_loss(logits, label, reduction='none', avg_factor=7, **options), actual)
    assert_close(locally_adaptive_loss(logits, label, reduction='sum', **options), total)
    assert_close(locally_adaptive_loss(logits, label, **options), total / 2)  # the image of void does not count
    for avg_factor in (7, 7.0, torch.tensor(7)):
        assert_close(locally_adaptive_loss(logits, label, avg_factor=avg_factor, **options), total / 7)


def test_upstream_gradients():
    label = blobs((2, 7, 8), 4, void=0.1)
    logits = random_logits(label, 4)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    _, expected = oracle_loss(logits, label, 3, weight=weight.double().numpy())
    (gradient,) = torch.autograd.grad(-3 * locally_adaptive_loss(logits, label, 3, weight=weight), logits)
    assert_close(gradient, -3 * expected)
    # Uneven over the pixels.
    numpy_logits = logits.detach().double().numpy()
    _, expected = oracle.local_errors(numpy_logits, label.numpy(), 3, upstream=weight.double().numpy())
    error = locally_adaptive_loss(logits, label, 3, reduction='none')
    (gradient,) = torch.autograd.grad((weight * error).sum(), logits)
    assert_close(gradient, torch.from_numpy(expected))


@pytest.mark.parametrize('scale', [2, 0])
@pytest.mark.parametrize(('ksize', 'stride', 'power'), [(3, 1, 3.0), (5, 2, 1.5)])
def test_gradcheck(ksize, stride, power, scale):
    label = blobs((2, 4, 5), 3, void=0.1)
    logits = random_logits(label, 3, scale, dtype=torch.float64)

    def loss(logits):
        return locally_adaptive_loss(logits, label, ksize, stride=stride, power=power)

    assert loss(logits).dtype == torch.float64
    # At constant logits the standard score is nearly straight over 1e-6 alone, since its deviation is 3e-3.
    assert torch.autograd.gradcheck(loss, logits, eps=1e-6, atol=1e-5)


def test_gradient_at_constant_logits():
    """The score's slope is 1 / sqrt(1e-5) there, and no more."""
    label = torch.zeros(1, 1, 1, dtype=torch.int64)
    logits = torch.full((1, 4, 1, 1), 5.0, requires_grad=True)
    loss = locally_adaptive_loss(logits, label, power=1)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(loss, math.log(4))
    expected = 2 / math.sqrt(1e-5) * torch.tensor([-0.75, 0.25, 0.25, 0.25]).view(1, 4, 1, 1)
    assert_close(gradient, expected)


def test_gradient_where_all_errors_vanish():
    """With 400 classes and no neighbors the error of a perfect prediction is 4e-15: below float32's resolution."""
    label = torch.zeros(1, 1, 1, dtype=torch.int64)
    logits = torch.zeros(1, 400, 1, 1)
    logits[:, 0] = 10
    logits.requires_grad_()
    loss = locally_adaptive_loss(logits, label)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize('factor', [0.0, 1e-25, 1e15])
def test_weights_of_any_size(factor):
    """The cube of neither fits float32."""
    label = blobs((1, 6, 6), 3)
    logits = random_logits(label, 3)
    expected, expected_gradient = oracle_loss(logits, label, 3)
    loss = locally_adaptive_loss(logits, label, 3, weight=torch.full(label.shape, factor))
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss.item(), factor * expected, rtol=1e-5, atol=0)
    assert_close(gradient / (factor or 1), expected_gradient if factor else 0 * expected_gradient)


@pytest.mark.parametrize(('ksize', 'expected'), [(3, 0.10), (5, 0.52), (7, 1.10)])
def test_perfect_prediction_keeps_a_loss(ksize, expected):
    label = torch.zeros(1, 40, 40, dtype=torch.int64)
    logits = torch.zeros(1, 21, 40, 40)
    logits[:, 0] = 100
    error = locally_adaptive_loss(logits, label, ksize, reduction='none')
    assert error[0, 20, 20].item() == pytest.approx(expected, abs=0.005)


def test_size_of_the_logits_is_forgotten():
    label = blobs((1, 12, 12), 4)
    logits = random_logits(label, 4, 100).detach()
    assert_close(locally_adaptive_loss(1e10 * logits, label), locally_adaptive_loss(logits, label))


@pytest.mark.parametrize('scale', [1e20, 3e38])
def test_largest_logits_stay_finite(scale):
    """More than 1e15 apart, the highest is as far ahead of all others."""
    label = blobs((1, 12, 12), 4)
    logits = random_logits(label, 4).detach()
    logits = (scale * (logits / logits.abs().max())).requires_grad_()
    highest = torch.nn.functional.one_hot(logits.argmax(1), 4).movedim(3, 1)
    loss = locally_adaptive_loss(logits, label)
    assert_close(loss, locally_adaptive_loss(100.0 * highest, label).item())
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


def test_large_common_offset_of_the_logits():
    label = blobs((1, 12, 12), 4)
    logits = random_logits(label, 4, 10).detach().round()  # so that adding the offset rounds nothing
    assert torch.equal(locally_adaptive_loss(logits + 2.0**20, label), locally_adaptive_loss(logits, label))


def test_images_are_pooled_each_on_its_own():
    label = blobs((3, 9, 9), 4, void=0.1)
    logits = random_logits(label, 4)
    alone = [locally_adaptive_loss(logits[i : i + 1], label[i : i + 1]) for i in range(3)]
    assert_close(locally_adaptive_loss(logits, label), torch.stack(alone).mean().detach())


def test_class_at_a_distance_is_not_pooled():
    """Neither over another class nor over void; a pixel further away than the window is not seen."""
    label = torch.zeros(1, 1, 9, dtype=torch.int64)
    label[0, 0, 3:6] = torch.tensor([1, 255, 2])
    logits = random_logits(label, 3).detach()
    expected = locally_adaptive_loss(logits, label, 5, reduction='none')
    for changed, read in [(0, {0, 1, 2}), (3, {3}), (4, set()), (5, {5}), (8, {6, 7, 8})]:
        other = logits.clone()
        other[..., changed] = torch.tensor([3.0, -1.0, 7.0]).view(3, 1)
        error = locally_adaptive_loss(other, label, 5, reduction='none')
        assert set((error != expected)[0, 0].nonzero().flatten().tolist()) == read


def test_memory_formats():
    label = blobs((2, 10, 15), 4)
    logits = random_logits(label, 4).detach()
    expected, expected_gradient = oracle_loss(logits, label, 3)
    sliced = torch.zeros(2, 8, 10, 30)[:, ::2, :, ::2].copy_(logits)
    transposed = logits.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (logits.to(memory_format=torch.channels_last), sliced, transposed):
        assert not other.is_contiguous()
        other.requires_grad_()
        loss = locally_adaptive_loss(other, label.transpose(1, 2).contiguous().transpose(1, 2), 3)
        (gradient,) = torch.autograd.grad(loss, other)
        assert_close(loss, expected)
        assert_close(gradient, expected_gradient)


@pytest.mark.skipif(
    not hasattr(torch._C._autograd._KinetoEvent, 'start_ns'), reason="the profiler's events are too coarse"
)
def test_memory_does_not_grow_with_the_window():
    label = blobs((4, 48, 64), 19)
    logits = random_logits(label, 19)
    peaks = []
    for ksize in (3, 11):
        logits.grad = None
        with torch.profiler.profile(profile_memory=True) as profile:
            locally_adaptive_loss(logits, label, ksize).backward()
        held = [0]
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
            if event.name() == '[memory]':
                held.append(held[-1] + event.nbytes())
        peaks.append(max(held) / (logits.numel() * logits.element_size()))
    assert peaks[1] <= 1.01 * peaks[0]
    # Of large images cross-entropy's 3; the chunks' own memory counts for a small one.
    assert peaks[0] <= 4


LABEL = torch.tensor([[[0, 0, 1, 1]] * 4])
LOGITS = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(ksize=4), ValueError, r'ksize must be odd and in \[3, 11\], got 4'),
        (dict(stride=0), ValueError, 'stride must be >= 1, got 0'),
        (dict(stride=1.5), TypeError, 'stride must be an int, got 1.5'),
        (dict(power=0.5), ValueError, 'power must be a finite number >= 1, got 0.5'),
        (dict(power=math.inf), ValueError, 'power must be a finite number >= 1, got inf'),
        (dict(power='3'), TypeError, "power must be a finite number >= 1, got '3'"),
        (dict(logits=LOGITS[:, :2]), ValueError, r'logits must have at least 3 classes, .* got shape \(1, 2, 4, 4\)'),
        (dict(logits=LOGITS[:, :1]), ValueError, r'logits must have at least 3 classes, .* got shape \(1, 1, 4, 4\)'),
        (dict(label=LABEL * 3), ValueError, r'label must be in \[0, 3\) or ignore_index=255, got 3'),
        (dict(weight=-torch.ones(1, 4, 4)), ValueError, 'weight must be >= 0, got -1.0'),
        (dict(avg_factor=2, reduction='sum'), ValueError, "avg_factor cannot be used with reduction='sum'"),
        (dict(avg_factor=-1), ValueError, 'avg_factor must be >= 0, got -1'),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        locally_adaptive_loss(**{'logits': LOGITS, 'label': LABEL, **changes})
