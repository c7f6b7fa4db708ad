from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import mmseg_cpg.ops
from mmseg_cpg.ops import boundary_targets
from tests.inputs import blobs, random_logits
from tests.oracles import cpg_loss as oracle

IMPLEMENTATIONS = ['dense', 'sparse', 'triton']
POLICIES = ['exclude', 'as_background']

# A probability carries a few roundings of 6e-8, a gradient the sum of up to 120 products of them. That is far below
# this bound, unless terms cancel: then the error is measured against their size before they do (CANCELLATION).
RELATIVE_ERROR = 2e-5
CANCELLATION = 16 * torch.finfo(torch.float32).eps


def oracle_loss(logits, label, ksize, ignore_policy='exclude', use_sigmoid=False, weight=None, class_weight=None):
    """Mean loss, its gradient and the gradient's size before cancellation, in float64; and e."""
    entries = oracle.boundary(label.numpy(), ksize, logits.shape[1], ignore_policy=ignore_policy)
    upstream = np.ones(label.shape) if weight is None else weight.numpy()
    error, gradient, size = oracle.squared_error(
        logits.detach().double().numpy(), entries, ksize, use_sigmoid, class_weight, upstream
    )
    count = max(len(entries), 1)
    loss = (upstream * error).sum() / count
    return loss, torch.from_numpy(gradient / count), torch.from_numpy(size / count), torch.from_numpy(error)


def assert_close(actual, expected, size=0.0, tolerance=RELATIVE_ERROR):
    actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
    assert actual.shape == expected.shape
    canceled = CANCELLATION * torch.as_tensor(size).norm()
    assert (actual - expected).norm() <= tolerance * expected.norm() + canceled


def cpg_loss(logits, label, ksize=3, **options):
    """The package's function; Triton's kernels run on the GPU if there is one, through the interpreter if not."""
    if options.get('implementation') != 'triton' or not torch.cuda.is_available():
        return mmseg_cpg.ops.cpg_loss(logits, label, ksize, **options)
    options = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    with torch.autocast('cuda', dtype=logits.dtype, enabled=torch.is_autocast_enabled('cpu')):
        return mmseg_cpg.ops.cpg_loss(logits.cuda(), label.cuda(), ksize, **options).cpu()


@st.composite
def cases(draw, ksizes=(3, 5, 7, 9, 11)):
    num_classes = draw(st.sampled_from([1, 2, 3, 6]))
    label = blobs(
        (draw(st.integers(1, 2)), draw(st.integers(1, 18)), draw(st.integers(1, 18))),
        max(num_classes, 2),
        void=draw(st.sampled_from([0, 0, 0.03, 0.5, 1])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    scale = draw(st.sampled_from([0, 1, 30]))
    logits = random_logits(label, num_classes, scale, seed=draw(st.integers(0, 2**31)))
    return logits, label, draw(st.sampled_from(ksizes)), draw(st.sampled_from(POLICIES)), draw(st.booleans())


@pytest.mark.parametrize('implementation', ['dense', 'sparse'])
@settings(max_examples=60, deadline=None)
@given(cases())
def test_loss_and_gradient_are_those_of_the_oracle(implementation, case):
    check_against_oracle(implementation, case)


@settings(max_examples=10, deadline=None)
@given(cases(ksizes=(3, 3, 3, 5)))
def test_loss_and_gradient_of_triton_are_those_of_the_oracle(case):
    """Apart, since the interpreter takes a second where the others take milliseconds."""
    check_against_oracle('triton', case)


def check_against_oracle(implementation, case):
    logits, label, ksize, ignore_policy, use_sigmoid = case
    expected, expected_gradient, size, _ = oracle_loss(logits, label, ksize, ignore_policy, use_sigmoid)
    options = dict(ignore_policy=ignore_policy, use_sigmoid=use_sigmoid, implementation=implementation)
    loss = cpg_loss(logits, label, ksize, **options)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    # Where the prediction is confident and right, Ĝ - G cancels: P is right to about eps and sum(|S|) below 3k, so that
    # each difference is off by up to delta and, by Cauchy-Schwarz, the mean square by this much.
    delta = 4 * ksize * torch.finfo(torch.float32).eps
    canceled = 2 * delta * expected**0.5 + delta**2
    assert abs(loss.item() - expected) <= RELATIVE_ERROR * expected + canceled
    assert_close(gradient, expected_gradient, size)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('num_classes', [1, 3])
def test_weights_and_reductions(implementation, num_classes):
    label = blobs((2, 8, 17), max(num_classes, 2), void=0.01)
    logits = random_logits(label, num_classes)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    class_weight = [0.5, 2.0, 1.5][:num_classes]
    options = dict(weight=weight, class_weight=class_weight, implementation=implementation)
    expected, expected_gradient, _, error = oracle_loss(logits, label, 3, weight=weight, class_weight=class_weight)
    error = weight * error

    assert_close(cpg_loss(logits, label, 3, **options).detach(), expected)
    assert_close(cpg_loss(logits, label, 3, reduction='none', **options).detach(), error)
    assert_close(cpg_loss(logits, label, 3, reduction='sum', **options).detach(), error.sum())
    for avg_factor in (7, 7.0, np.float64(7), torch.tensor(7), torch.tensor(7.0, dtype=torch.float64)):
        assert_close(cpg_loss(logits, label, 3, avg_factor=avg_factor, **options).detach(), error.sum() / 7)
    assert torch.equal(
        cpg_loss(logits, label, 3, reduction='none', avg_factor=7, **options),
        cpg_loss(logits, label, 3, reduction='none', **options),
    )
    # An upstream gradient other than 1, uneven over the pixels.
    (gradient,) = torch.autograd.grad((-3 * cpg_loss(logits, label, 3, **options)), logits)
    assert_close(gradient, -3 * expected_gradient)
    upstream = torch.rand(label.shape, generator=torch.Generator().manual_seed(4))
    per_pixel = cpg_loss(logits, label, 3, reduction='none', class_weight=class_weight, implementation=implementation)
    (gradient,) = torch.autograd.grad((upstream * per_pixel).sum(), logits)
    _, expected_gradient, _, _ = oracle_loss(logits, label, 3, weight=upstream, class_weight=class_weight)
    entries = oracle.boundary(label.numpy(), 3, num_classes)
    assert_close(gradient, expected_gradient * len(entries))


@pytest.mark.parametrize('implementation', ['dense', 'sparse'])
@pytest.mark.parametrize(('num_classes', 'use_sigmoid'), [(1, True), (3, False), (3, True)])
@pytest.mark.parametrize('ksize', [3, 7])
def test_gradcheck(implementation, num_classes, use_sigmoid, ksize):
    label = blobs((2, 7, 8), max(num_classes, 2), void=0.02)
    logits = random_logits(label, num_classes, dtype=torch.float64)

    def loss(logits):
        options = dict(ignore_policy='as_background', use_sigmoid=use_sigmoid, implementation=implementation)
        return cpg_loss(logits, label, ksize, **options)

    assert loss(logits).dtype == torch.float64
    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize('ksize', [3, 5, 7, 9, 11])
@pytest.mark.parametrize('ignore_policy', POLICIES)
def test_sparse_is_dense_at_size(ksize, ignore_policy):
    label = blobs((2, 150, 203), 7, void=0.002)
    logits = random_logits(label, 7)
    loss, gradient = {}, {}
    for implementation in ('dense', 'sparse'):
        loss[implementation] = cpg_loss(
            logits, label, ksize, ignore_policy=ignore_policy, implementation=implementation
        )
        (gradient[implementation],) = torch.autograd.grad(loss[implementation], logits)
    assert_close(loss['sparse'].detach(), loss['dense'].detach())
    assert_close(gradient['sparse'], gradient['dense'])


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_perfect_prediction(implementation):
    label = blobs((1, 32, 32), 3)
    logits = 1000.0 * (F.one_hot(label, 3).movedim(3, 1) - 0.5)
    assert cpg_loss(logits, label, 5, implementation=implementation) == 0


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_perfect_prediction_next_to_a_void_square(implementation):
    label = torch.zeros(1, 16, 16, dtype=torch.int64)
    label[:, 6:10, 6:10] = 255
    logits = torch.zeros(1, 2, 16, 16)
    logits[:, 0] = 1000
    assert cpg_loss(logits, label, 3, implementation=implementation) == 0
    as_background = cpg_loss(logits, label, 3, ignore_policy='as_background', implementation=implementation)
    # Worked out by hand: 24 entries whose squares add up to 40.5.
    assert as_background.item() == 1.6875


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('ignore_policy', POLICIES)
@pytest.mark.parametrize(
    'label',
    [
        torch.full((2, 9, 9), 255),
        torch.full((2, 9, 9), 1),
        torch.zeros(1, 1, 1, dtype=torch.int64),
        torch.full((1, 1, 1), 255),
        torch.zeros(0, 9, 9, dtype=torch.int64),
    ],
    ids=['all void', 'one class', '1x1', '1x1 void', 'empty batch'],
)
@pytest.mark.parametrize('num_classes', [1, 3])
def test_no_boundary_is_zero_with_zero_gradient(implementation, ignore_policy, label, num_classes):
    if implementation == 'dense' and not len(label):
        pytest.skip('torch pads no empty batch')
    logits = random_logits(label, num_classes)
    for reduction in ('mean', 'sum', 'none'):
        loss = cpg_loss(
            logits, label, 3, ignore_policy=ignore_policy, reduction=reduction, implementation=implementation
        )
        assert loss.shape == (label.shape if reduction == 'none' else ())
        assert not loss.any()
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert gradient.shape == logits.shape
        assert not gradient.any()
    assert cpg_loss(logits, label, 3, avg_factor=0, implementation=implementation) == 0


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('use_sigmoid', [False, True])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_logits_that_no_boundary_window_reads_are_inert(implementation, use_sigmoid, value):
    label = torch.zeros(1, 24, 24, dtype=torch.int64)
    label[:, :, 12:] = 1
    label[:, 20:] = 255
    logits = random_logits(label, 3)
    expected = cpg_loss(logits, label, 3, use_sigmoid=use_sigmoid, implementation=implementation)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    read = expected_gradient.detach().abs().sum(1, keepdim=True) > 0
    assert read.any()
    spoiled = logits.detach().where(read, value).requires_grad_()
    loss = cpg_loss(spoiled, label, 3, use_sigmoid=use_sigmoid, implementation=implementation)
    (gradient,) = torch.autograd.grad(loss, spoiled)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('ksize', [3, 7])
def test_nan_in_any_place_of_a_boundary_window_is_seen(implementation, ksize):
    label = torch.zeros(1, 8, 20, dtype=torch.int64)
    label[:, :, 10:] = 1
    radius = ksize // 2
    first, last = 10 - 2 * radius, 9 + 2 * radius
    for column in (first - 1, first, 10 - radius, 9, 10, last, last + 1):
        logits = torch.zeros(1, 2, 8, 20)
        logits[0, 1, 4, column] = float('nan')
        loss = cpg_loss(logits, label, ksize, implementation=implementation)
        assert loss.isnan().item() == (first <= column <= last), column


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_void_logits_change_nothing(implementation):
    label = blobs((2, 24, 32), 4)
    label[:, 10:15, 8:26] = 255
    logits = random_logits(label, 4)
    loss = cpg_loss(logits, label, 5, implementation=implementation)
    (gradient,) = torch.autograd.grad(loss, logits)
    void = (label == 255)[:, None].expand_as(logits)
    assert not gradient[void].any()
    changed = logits.detach().masked_fill(void, 1e30)
    assert torch.equal(cpg_loss(changed, label, 5, implementation=implementation), loss)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('scale', [1e2, 1e4, 1e30])
def test_confident_logits(implementation, scale):
    label = blobs((1, 20, 20), 3)
    logits = (scale * F.one_hot(blobs((1, 20, 20), 3, seed=5), 3).movedim(3, 1).float()).requires_grad_()
    expected, expected_gradient, size, _ = oracle_loss(logits, label, 3)
    loss = cpg_loss(logits, label, 3, implementation=implementation)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(loss.detach(), expected)
    assert_close(gradient, expected_gradient, size)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('scale', [1e4, 1e16, 3e38])
def test_several_classes_with_the_highest_logit(implementation, scale):
    """They share the probability, however high the logit is."""
    label = blobs((1, 20, 20), 3)
    logits = torch.tensor([1.0, 1.0, -1.0]).view(-1, 1, 1).repeat(1, 1, 20, 20)
    logits[:, 1, :, 10:] = -1.0
    expected = cpg_loss(logits * 100, label, 3, implementation='dense')
    assert_close(cpg_loss(logits * scale, label, 3, implementation=implementation), expected)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_large_common_offset_of_the_logits(implementation):
    label = blobs((1, 20, 20), 3)
    logits = random_logits(label, 3).detach().round()  # so that adding the offset rounds nothing
    expected = cpg_loss(logits, label, 3, implementation=implementation)
    assert_close(cpg_loss(logits + 2.0**20, label, 3, implementation=implementation), expected)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision_is_computed_in_float32(implementation, dtype, autocast):
    if autocast and dtype == torch.float16 and torch.__version__ < '2.4':
        pytest.skip('autocast on CPU knows bfloat16 only')
    label = blobs((2, 16, 30), 4)
    logits = random_logits(label, 4, dtype=dtype)
    expected, expected_gradient, _, _ = oracle_loss(logits, label, 3)
    with torch.autocast('cpu', dtype=dtype) if autocast else nullcontext():
        loss = cpg_loss(logits, label, 3, implementation=implementation)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    assert_close(loss.detach(), expected)
    # The gradient is rounded once, to the logits' dtype; in float16 the smallest ones are subnormal.
    info = torch.finfo(dtype)
    bound = info.eps * expected_gradient.abs() + (info.tiny * info.eps if dtype == torch.float16 else 0) + 1e-9
    assert ((gradient.double() - expected_gradient).abs() <= bound).all()


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_class_weight_of_any_stride(implementation):
    label = blobs((1, 8, 17), 3)
    logits = random_logits(label, 3)
    class_weight = torch.tensor([0.5, 7.0, 2.0, 7.0, 1.5])[::2]
    expected, expected_gradient, _, _ = oracle_loss(logits, label, 3, class_weight=[0.5, 2.0, 1.5])
    loss = cpg_loss(logits, label, 3, class_weight=class_weight, implementation=implementation)
    assert_close(loss.detach(), expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(gradient, expected_gradient)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_memory_formats(implementation):
    label = blobs((2, 8, 30), 4)
    logits = random_logits(label, 4).detach()
    expected = cpg_loss(logits, label, 3, implementation=implementation)
    sliced = torch.zeros(2, 8, 8, 60)[:, ::2, :, ::2].copy_(logits)
    transposed = logits.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (logits.to(memory_format=torch.channels_last), sliced, transposed):
        assert not other.is_contiguous()
        other.requires_grad_()
        loss = cpg_loss(other, label.transpose(1, 2).contiguous().transpose(1, 2), 3, implementation=implementation)
        (gradient,) = torch.autograd.grad(loss, other)
        assert_close(loss.detach(), expected, tolerance=1e-6)
        _, expected_gradient, _, _ = oracle_loss(logits, label, 3)
        assert_close(gradient, expected_gradient)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_label_dtypes(dtype):
    label = blobs((2, 20, 30), 4)
    logits = random_logits(label, 4)
    for implementation in IMPLEMENTATIONS:
        assert torch.equal(
            cpg_loss(logits, label.to(dtype), 3, implementation=implementation),
            cpg_loss(logits, label, 3, implementation=implementation),
        )


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_more_than_256_classes(implementation):
    label = blobs((1, 25, 30), 300, seed=6)
    label[0, :5, :5], label[0, :5, 5:10] = 299, 256
    logits = random_logits(label, 300)
    expected, expected_gradient, _, _ = oracle_loss(logits, label, 3)
    loss = cpg_loss(logits, label, 3, implementation=implementation)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(loss.detach(), expected)
    assert_close(gradient, expected_gradient)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
def test_inputs_are_left_alone(implementation):
    label = blobs((1, 20, 20), 3, void=0.05)
    logits = random_logits(label, 3)
    before = logits.detach().clone(), label.clone()
    cpg_loss(logits, label, 3, implementation=implementation).backward()
    assert torch.equal(logits, before[0])
    assert torch.equal(label, before[1])


def test_second_derivative_is_refused():
    label = blobs((1, 20, 20), 3)
    logits = random_logits(label, 3)
    loss = logits.square().sum() + cpg_loss(logits, label, 3)
    with pytest.raises(RuntimeError, match=r"can be differentiated once only .* implementation='dense'"):
        torch.autograd.grad(loss, logits, create_graph=True)


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('num_classes', [1, 3])
def test_precomputed_targets_give_the_same_bits(implementation, num_classes):
    label = blobs((2, 40, 30), max(num_classes, 2), void=0.01)
    logits = random_logits(label, num_classes)
    results = []
    for targets in (None, boundary_targets(label.numpy().astype(np.uint8), 5)):
        loss = cpg_loss(logits, label, 5, targets=targets, implementation=implementation)
        results.append((loss, *torch.autograd.grad(loss, logits)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


LABEL = torch.tensor([[[0, 0, 1, 1]] * 4])
LOGITS = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(ksize=4), ValueError, r'ksize must be odd and in \[3, 11\], got 4'),
        (dict(ksize=13), ValueError, r'ksize must be odd and in \[3, 11\], got 13'),
        (dict(ksize=3.0), TypeError, 'ksize must be an int, got 3.0'),
        (dict(logits=[[0.0]]), TypeError, 'logits must be a torch.Tensor, got list'),
        (dict(logits=LOGITS.int()), TypeError, 'logits must have a floating point dtype .* got torch.int32'),
        (
            dict(logits=LOGITS[0]),
            ValueError,
            r'logits must have shape \(B, C, H, W\) with C, H, W > 0, got \(2, 4, 4\)',
        ),
        (dict(logits=LOGITS[:, :, :3]), ValueError, r'label must have shape .* = \(1, 3, 4\) .* got \(1, 4, 4\)'),
        (dict(logits=LOGITS.to('meta')), ValueError, "label must be on the logits' device meta, got cpu"),
        (dict(label=LABEL[:, None]), ValueError, r'label must have shape .* = \(1, 4, 4\) .* got \(1, 1, 4, 4\)'),
        (dict(label=LABEL.float()), TypeError, 'label must have an integer dtype, got torch.float32'),
        (dict(label=LABEL * 2), ValueError, r'label must be in \[0, 2\) or ignore_index=255, got 2'),
        (dict(label=LABEL - 1), ValueError, r'label must be in \[0, 2\) or ignore_index=255, got -1'),
        (dict(label=LABEL * 255, ignore_index=0), ValueError, r'label must be in \[0, 2\) or ignore_index=0, got 255'),
        (dict(label=LABEL * 2, logits=LOGITS[:, :1]), ValueError, r'label must be in \[0, 2\) .* got 2'),
        (dict(ignore_policy='ignore'), ValueError, "ignore_policy must be one of .*, got 'ignore'"),
        (dict(reduction='max'), ValueError, "reduction must be one of .*, got 'max'"),
        (dict(reduction=None), ValueError, 'reduction must be one of .*, got None'),
        (dict(implementation='cuda'), ValueError, "implementation must be one of .*, got 'cuda'"),
        (dict(weight=torch.ones(4, 4)), ValueError, r'weight must have shape \(1, 4, 4\), got \(4, 4\)'),
        (dict(class_weight=[1.0]), ValueError, r'class_weight must have shape \(2,\), got \(1,\)'),
        (dict(avg_factor=2, reduction='sum'), ValueError, "avg_factor cannot be used with reduction='sum'"),
        (dict(weight=['a']), TypeError, r"weight must be a tensor or a list of numbers, got \['a'\]"),
        (dict(avg_factor='a'), TypeError, "avg_factor must be a number or a scalar tensor, got 'a'"),
        (dict(avg_factor=torch.tensor(-1.0)), ValueError, r'avg_factor must be >= 0, got -1'),
        (dict(ignore_index=None), TypeError, 'ignore_index must be an int, got None'),
        (dict(use_sigmoid='False'), TypeError, "use_sigmoid must be a bool, got 'False'"),
        (dict(targets='a'), TypeError, 'targets must be BoundaryTargets, got str'),
        (
            dict(targets=boundary_targets(LABEL * 7, 3)),
            ValueError,
            r'class ids of the label that targets were computed from must be in \[0, 2\), got 7',
        ),
        (dict(avg_factor=-1), ValueError, 'avg_factor must be >= 0, got -1'),
        (dict(avg_factor=float('nan')), ValueError, 'avg_factor must be >= 0, got nan'),
        (dict(avg_factor=torch.ones(2)), ValueError, r'avg_factor must be .* scalar tensor, got shape \(2,\)'),
        (
            dict(targets=boundary_targets(LABEL, 5)),
            ValueError,
            r'must be computed with .* 3, 255, .*got .* 5, 255',
        ),
        (dict(targets=boundary_targets(LABEL[:, :2], 3)), ValueError, r'\(1, 4, 4\), .* got \(\(1, 2, 4\)'),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        cpg_loss(**{'logits': LOGITS, 'label': LABEL, **changes})
