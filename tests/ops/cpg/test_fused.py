"""cross_entropy_cpg_loss against float64 oracles of both losses, and the contract that it shares with cpg_loss."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import boundary_targets, cpg_loss, cross_entropy_cpg_loss
from tests.inputs import blobs, random_logits
from tests.oracles import cpg_loss as cpg_oracle
from tests.oracles.cross_entropy import cross_entropy

EPS = torch.finfo(torch.float32).eps
# Each value is a sum of terms that carry a few roundings of eps; where terms cancel, the error is a few eps of the sum
# of their sizes.
ROUNDINGS = 32


def oracle(logits, label, ksize, *, ignore_policy='exclude', use_sigmoid=False, weight=None, class_weight=None,
           cpg_class_weight=None, avg_non_ignore=False, avg_factor=None, ce_weight=1.0, cpg_weight=1.0):  # fmt: skip
    """Both losses for reduction 'mean', the gradient of their sum, and its size before terms cancel."""
    z, y = logits.detach().double().numpy(), label.numpy()
    num_classes = z.shape[1]
    w = np.ones(y.shape) if weight is None else weight.double().numpy()
    error, gradient = cross_entropy(z, y, use_sigmoid=use_sigmoid, class_weight=class_weight)
    void = y == 255
    if avg_factor is not None:
        divisor = avg_factor
    elif class_weight is not None and not use_sigmoid:
        divisor = np.asarray(class_weight)[y[~void]].sum()
    else:
        divisor = ((~void).sum() if avg_non_ignore else void.size) * (num_classes if use_sigmoid else 1)
    ce_factor = ce_weight / (divisor or 1)
    entries = cpg_oracle.boundary(y, ksize, num_classes, ignore_policy=ignore_policy)
    cpg_error, cpg_gradient, size = cpg_oracle.squared_error(z, entries, ksize, False, cpg_class_weight, w)
    cpg_factor = cpg_weight / (max(len(entries), 1) if avg_factor is None else avg_factor)
    # The gradient is p - y, and p is rounded before: the size of both is up to 2 more where y is 1, and p - y negative.
    operands = np.abs(gradient) + 2 * np.max(class_weight or 1) * (gradient <= 0)
    return (
        ce_factor * (w * error).sum(),
        cpg_factor * (w * cpg_error).sum(),
        torch.from_numpy(ce_factor * w[:, None] * gradient + cpg_factor * cpg_gradient),
        torch.from_numpy(np.abs(ce_factor * w[:, None] * operands) + cpg_factor * size),
    )


def check(logits, label, ksize, loss=cross_entropy_cpg_loss, **options):
    """Compare with the oracle."""
    result = loss(logits, label, ksize, **options)
    (gradient,) = torch.autograd.grad(result.total, logits)
    ce, cpg, expected, size = oracle(logits, label, ksize, **options)
    assert result.total.dtype == torch.float32
    assert not result.cross_entropy.requires_grad
    assert not result.cpg.requires_grad
    assert abs(result.cross_entropy.item() - ce) <= ROUNDINGS * EPS * (abs(ce) + options.get('ce_weight', 1))
    # A probability is right to about eps and sum(|S|) is below 3k, so that each difference is off by up to delta and,
    # by Cauchy-Schwarz, the mean square by this much.
    delta = 4 * ksize * EPS
    assert abs(result.cpg.item() - cpg) <= 2e-5 * cpg + options.get('cpg_weight', 1) * (2 * delta * cpg**0.5 + delta**2)
    assert abs(result.total.item() - (result.cross_entropy + result.cpg).item()) <= EPS * abs(result.total.item())
    assert gradient.shape == logits.shape
    assert (gradient.double() - expected).norm() <= ROUNDINGS * EPS * size.norm() + 1e-12


@st.composite
def cases(draw, ksizes=(3, 5, 7, 9, 11)):
    num_classes = draw(st.sampled_from([1, 2, 3, 6]))
    label = blobs(
        (draw(st.integers(1, 2)), draw(st.integers(1, 18)), draw(st.integers(1, 18))),
        max(num_classes, 2),
        void=draw(st.sampled_from([0, 0, 0.03, 0.5, 1])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    logits = random_logits(label, num_classes, draw(st.sampled_from([0, 1, 30])), seed=draw(st.integers(0, 2**31)))
    return logits, label, draw(st.sampled_from(ksizes))


OPTIONS = st.fixed_dictionaries(
    dict(
        use_sigmoid=st.booleans(),
        ignore_policy=st.sampled_from(['exclude', 'as_background']),
        avg_non_ignore=st.booleans(),
        ce_weight=st.sampled_from([1.0, 0.4]),
        cpg_weight=st.sampled_from([1.0, 2.5]),
    )
)


@settings(max_examples=100, deadline=None)
@given(cases(), OPTIONS)
def test_losses_and_gradient_are_those_of_the_oracles(case, options):
    logits, label, ksize = case
    if logits.shape[1] == 1:
        options['use_sigmoid'] = True
    check(logits, label, ksize, **options)


@settings(max_examples=30, deadline=None)
@given(OPTIONS, st.integers(0, 2**31), st.booleans())
def test_weights(options, seed, has_avg_factor):
    label = blobs((2, 9, 17), 3, void=0.02, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(label.shape, generator=generator) * (torch.rand(label.shape, generator=generator) < 0.7)
    options |= dict(weight=weight, class_weight=[0.5, 2.0, 1.5], cpg_class_weight=[1.0, 0.25, 3.0])
    if has_avg_factor:
        options['avg_factor'] = 7.0
    check(random_logits(label, 3, seed=seed), label, 3, **options)


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_sum_and_values_of_pixels(use_sigmoid):
    label = blobs((2, 12, 17), 3, void=0.02)
    logits = random_logits(label, 3)
    options = dict(use_sigmoid=use_sigmoid, ce_weight=0.5, cpg_weight=2.0)
    of_pixels = cross_entropy_cpg_loss(logits, label, reduction='none', **options)
    total = cross_entropy_cpg_loss(logits, label, reduction='sum', **options)
    error, _ = cross_entropy(logits.detach(), label, use_sigmoid=use_sigmoid)
    torch.testing.assert_close(of_pixels.cross_entropy.double(), torch.from_numpy(0.5 * error))
    torch.testing.assert_close(of_pixels.cpg, 2 * cpg_loss(logits, label, reduction='none').detach())
    for name in ('total', 'cross_entropy', 'cpg'):
        torch.testing.assert_close(getattr(total, name), getattr(of_pixels, name).sum())
    gradients = [torch.autograd.grad(loss.total.sum(), logits)[0] for loss in (total, of_pixels)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_threads_and_pieces_change_nothing(use_sigmoid, monkeypatch):
    label = blobs((2, 70, 90), 4, void=0.01)
    logits = random_logits(label, 4)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            result = cross_entropy_cpg_loss(logits, label, 5, use_sigmoid=use_sigmoid)
            results.append((result.total.detach(), *torch.autograd.grad(result.total, logits)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, other, results[0]))
    monkeypatch.setattr('mmseg_cpg.ops.cpg.sparse_fused._ENTRIES_OF_PART', 37)
    monkeypatch.setattr('mmseg_cpg.ops.cpg.bands._BANDS_OF_BATCH', 1)
    result = cross_entropy_cpg_loss(logits, label, 5, use_sigmoid=use_sigmoid)
    torch.testing.assert_close(result.total.detach(), results[0][0])
    torch.testing.assert_close(torch.autograd.grad(result.total, logits)[0], results[0][1], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('scale', [1e2, 1e4, 1e30])
def test_confident_logits(use_sigmoid, scale):
    label = blobs((1, 20, 20), 3, void=0.02)
    answer = blobs((1, 20, 20), 3, seed=5)
    logits = (scale * torch.nn.functional.one_hot(answer, 3).movedim(3, 1).float()).requires_grad_()
    check(logits, label, 3, use_sigmoid=use_sigmoid)


@pytest.mark.parametrize('offset', [-1e4, -80.0, 60.0, 1e4])
def test_a_common_offset_changes_no_softmax(offset):
    label = blobs((1, 20, 20), 3)
    logits = random_logits(label, 3).detach().mul_(256).round_().div_(256)  # so that adding the offset rounds nothing
    shifted = (logits + offset).requires_grad_()
    check(shifted, label, 3)


def test_a_perfect_and_confident_prediction():
    label = blobs((1, 20, 20), 3)
    logits = (50 * torch.nn.functional.one_hot(label, 3).movedim(3, 1).float()).requires_grad_()
    result = cross_entropy_cpg_loss(logits, label)
    assert 0 <= result.total < 1e-6
    assert torch.autograd.grad(result.total, logits)[0].abs().max() < 1e-6


@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize(
    'label',
    [torch.full((2, 16, 20), 255), torch.full((1, 1, 1), 255), torch.zeros(0, 16, 20, dtype=torch.int64)],
    ids=['all void', '1x1 void', 'empty batch'],
)
def test_nothing_to_learn_from_is_zero_with_zero_gradient(use_sigmoid, label):
    logits = random_logits(label, 3)
    for options in ({}, dict(avg_non_ignore=True), dict(class_weight=[1.0, 2.0, 3.0]), dict(avg_factor=0)):
        result = cross_entropy_cpg_loss(logits, label, use_sigmoid=use_sigmoid, **options)
        assert [value.item() for value in result] == [0, 0, 0]
        assert not torch.autograd.grad(result.total, logits)[0].any()


@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf'), 1e30])
def test_void_logits_change_nothing(use_sigmoid, value):
    label = blobs((2, 24, 32), 4)
    label[:, 10:15, 8:26] = 255
    logits = random_logits(label, 4)
    void = (label == 255)[:, None].expand_as(logits)
    results = []
    for each in (logits, logits.detach().masked_fill(void, value).requires_grad_()):
        result = cross_entropy_cpg_loss(each, label, 5, use_sigmoid=use_sigmoid)
        results.append((result.total.detach(), *torch.autograd.grad(result.total, each)))
    assert not results[1][1][void].any()
    torch.testing.assert_close(*(total for total, _ in results))
    torch.testing.assert_close(*(gradient for _, gradient in results), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_nan_that_counts_is_seen(use_sigmoid):
    label = blobs((1, 24, 24), 3)
    logits = random_logits(label, 3).detach()
    logits[0, 1, 4, 7] = float('nan')
    assert cross_entropy_cpg_loss(logits, label, use_sigmoid=use_sigmoid).cross_entropy.isnan()
    weight = torch.ones(label.shape)
    label = torch.zeros(1, 24, 24, dtype=torch.int64)
    label[:, :, 12:] = 1
    label[0, 4, 11] = 255
    logits = torch.zeros(1, 3, 24, 24)
    logits[0, :, 4, 11] = float('nan')
    result = cross_entropy_cpg_loss(logits, label, ignore_policy='as_background', weight=weight)
    assert result.cross_entropy.isfinite()
    assert result.cpg.isnan()


@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision_is_computed_in_float32(use_sigmoid, dtype, autocast):
    if autocast and dtype == torch.float16 and torch.__version__ < '2.4':
        pytest.skip('autocast on CPU knows bfloat16 only')
    label = blobs((2, 16, 30), 4)
    logits = random_logits(label, 4, dtype=dtype)
    ce, cpg, expected, _ = oracle(logits, label, 3, use_sigmoid=use_sigmoid)
    with torch.autocast('cpu', dtype=dtype) if autocast else nullcontext():
        result = cross_entropy_cpg_loss(logits, label, use_sigmoid=use_sigmoid)
    (gradient,) = torch.autograd.grad(result.total, logits)
    assert result.total.dtype == torch.float32
    assert abs(result.total.item() - ce - cpg) <= 1e-5 * (ce + cpg)
    # Rounded once, to the logits' dtype; the smallest ones of float16 are subnormal.
    info = torch.finfo(dtype)
    bound = info.eps * expected.abs() + (info.tiny * info.eps if dtype == torch.float16 else 0) + 1e-8
    assert ((gradient.double() - expected).abs() <= bound).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_scale_of_a_loss_keeps_small_gradients_in_range(dtype):
    label = blobs((1, 16, 30), 4)
    logits = random_logits(label, 4, dtype=dtype)
    # The mean over as many pixels as two large crops have: unscaled, its gradient is below float16's range.
    options = dict(avg_factor=2**20, implementation='sparse')
    _, _, expected, _ = oracle(logits, label, 3, avg_factor=2**20)
    (gradient,) = torch.autograd.grad(cross_entropy_cpg_loss(logits, label, **options).total * 2**16, logits)
    error = gradient.double() / 2**16 - expected
    assert error.norm() <= torch.finfo(dtype).eps * expected.norm()


def test_float64_is_as_exact_as_one_loss_after_the_other():
    label = blobs((2, 16, 30), 4, void=0.02)
    logits = random_logits(label, 4, dtype=torch.float64)
    for avg_non_ignore in (False, True):
        fused, separate = (
            cross_entropy_cpg_loss(logits, label, avg_non_ignore=avg_non_ignore, implementation=name)
            for name in ('sparse', 'separate')
        )
        for value, expected in zip(fused, separate, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_weight_of_an_absent_class_is_no_weight_of_void(use_sigmoid):
    label = blobs((1, 12, 14), 2) + 1
    label[0, 0, 0] = 255
    logits = random_logits(label, 3)
    results = []
    for weight in (1.0, float('inf')):
        result = cross_entropy_cpg_loss(logits, label, use_sigmoid=use_sigmoid, class_weight=[weight, 1.0, 2.0])
        results.append((*result, *torch.autograd.grad(result.total, logits)))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize('scale', [1, 1e4, 1e8])
def test_a_wrong_logit_whose_class_has_no_weight(scale):
    label = torch.zeros(1, 6, 6, dtype=torch.long)
    logits = torch.full((1, 3, 6, 6), -0.5)
    logits[:, 0] = -scale
    result = cross_entropy_cpg_loss(logits, label, use_sigmoid=True, class_weight=[0.0, 1.0, 1.0])
    expected = 2 / 3 * np.log1p(np.exp(-0.5))
    assert abs(result.cross_entropy.item() - expected) <= ROUNDINGS * EPS * expected


@pytest.mark.parametrize('threads', [1, 2])
def test_default_device_changes_nothing(threads):
    label = blobs((1, 9, 11), 3)
    logits = random_logits(label, 3)
    expected = cross_entropy_cpg_loss(logits, label)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.device('meta'):
            result = cross_entropy_cpg_loss(logits, label)
            result.total.backward()
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, result, expected))


@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_gradcheck(use_sigmoid):
    label = blobs((2, 7, 8), 3, void=0.02)
    logits = random_logits(label, 3, dtype=torch.float64)

    def loss(logits):
        return cross_entropy_cpg_loss(logits, label, 5, use_sigmoid=use_sigmoid, ignore_policy='as_background').total

    assert loss(logits).dtype == torch.float64
    assert torch.autograd.gradcheck(loss, logits)


def test_memory_formats_label_dtypes_and_inputs_left_alone():
    label = blobs((2, 8, 30), 4, void=0.02)
    logits = random_logits(label, 4).detach()
    before = logits.clone(), label.clone()
    sliced = torch.zeros(2, 8, 8, 60)[:, ::2, :, ::2].copy_(logits)
    transposed = logits.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (logits, logits.to(memory_format=torch.channels_last), sliced, transposed):
        for use_sigmoid in (False, True):
            check(other.requires_grad_(), label, 3, use_sigmoid=use_sigmoid)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        check(logits, label.to(dtype), 3)
    assert torch.equal(logits, before[0])
    assert torch.equal(label, before[1])


def test_precomputed_targets_give_the_same_bits():
    label = blobs((2, 40, 30), 3, void=0.01)
    logits = random_logits(label, 3)
    results = []
    for targets in (None, boundary_targets(label.numpy().astype(np.uint8), 5)):
        result = cross_entropy_cpg_loss(logits, label, 5, targets=targets)
        results.append((*result, *torch.autograd.grad(result.total, logits)))
    assert all(map(torch.equal, *results))


def test_upstream_gradient_and_repeated_backward():
    label = blobs((1, 20, 20), 3)
    logits = random_logits(label, 3)
    total = cross_entropy_cpg_loss(logits, label).total
    gradients = [
        torch.autograd.grad(factor * total, logits, retain_graph=True)[0].clone() for factor in (1.0, -3.0, 1.0)
    ]
    assert torch.equal(gradients[1], -3 * gradients[0])
    assert torch.equal(gradients[2], gradients[0])
    total.backward(retain_graph=True)
    total.backward()
    assert torch.equal(logits.grad, 2 * gradients[0])


def test_second_derivative_is_refused():
    label = blobs((1, 20, 20), 3)
    logits = random_logits(label, 3)
    with pytest.raises(RuntimeError, match='cross_entropy_cpg_loss can be differentiated once only'):
        torch.autograd.grad(cross_entropy_cpg_loss(logits, label).total, logits, create_graph=True)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_values_alone(mode):
    label = blobs((2, 20, 20), 3)
    logits = random_logits(label, 3)
    expected = cross_entropy_cpg_loss(logits, label)
    with mode():
        result = cross_entropy_cpg_loss(logits, label)
    assert not result.total.requires_grad
    assert all(map(torch.equal, result, expected))


LABEL = torch.tensor([[[0, 0, 1, 1]] * 4])
LOGITS = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(ksize=4), ValueError, r'ksize must be odd and in \[3, 11\], got 4'),
        (dict(logits=[[0.0]]), TypeError, 'logits must be a torch.Tensor, got list'),
        (dict(logits=LOGITS[:, :1]), ValueError, 'use_sigmoid must be True for logits with one channel, got False'),
        (dict(label=LABEL.float()), TypeError, 'label must have an integer dtype, got torch.float32'),
        (dict(label=LABEL * 2), ValueError, r'label must be in \[0, 2\) or ignore_index=255, got 2'),
        (dict(label=LABEL * 2, targets=boundary_targets(LABEL, 3)), ValueError, r'label must be in \[0, 2\) .*, got 2'),
        (dict(ce_weight=float('nan')), ValueError, 'ce_weight must be a finite number, got nan'),
        (dict(cpg_weight='1'), TypeError, "cpg_weight must be a finite number, got '1'"),
        (dict(use_sigmoid='False'), TypeError, "use_sigmoid must be a bool, got 'False'"),
        (dict(avg_non_ignore='False'), TypeError, "avg_non_ignore must be a bool, got 'False'"),
        (dict(ignore_policy='ignore'), ValueError, "ignore_policy must be one of .*, got 'ignore'"),
        (dict(reduction='max'), ValueError, "reduction must be one of .*, got 'max'"),
        (dict(implementation='dense'), ValueError, "implementation must be one of .*'separate'.*, got 'dense'"),
        (dict(targets='a', reduction='none'), TypeError, 'targets must be BoundaryTargets, got str'),
        (dict(weight=torch.ones(4, 4)), ValueError, r'weight must have shape \(1, 4, 4\), got \(4, 4\)'),
        (dict(class_weight=[1.0]), ValueError, r'class_weight must have shape \(2,\), got \(1,\)'),
        (dict(cpg_class_weight=[1.0]), ValueError, r'cpg_class_weight must have shape \(2,\), got \(1,\)'),
        (
            dict(weight=torch.ones(1, 4, 4, requires_grad=True)),
            ValueError,
            "^weight must not require a gradient, which is not computed by implementation='sparse'; 'separate'",
        ),
        (dict(avg_factor=2, reduction='sum'), ValueError, "avg_factor cannot be used with reduction='sum'"),
        (
            dict(targets=boundary_targets(LABEL, 5)),
            ValueError,
            r'must be computed with .* 3, 255, .*got .* 5, 255',
        ),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        cross_entropy_cpg_loss(**{'logits': LOGITS, 'label': LABEL, **changes})
