"""The fused loss's Triton kernels, on the GPU if there is one, through the interpreter if not: one second a case."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import mmseg_cpg.ops
from mmseg_cpg.ops import boundary_targets
from mmseg_cpg.ops.cpg.fused import CrossEntropyCPG
from tests.inputs import blobs, random_logits
from tests.ops.cpg import test_fused as fused
from tests.ops.cpg.test_fused import OPTIONS, check, oracle
from tests.oracles import cpg_loss as cpg_oracle
from tests.oracles.cross_entropy import cross_entropy

MAIN_LOSSES = pytest.mark.parametrize('use_sigmoid', [False, True], ids=['CE', 'BCE'])


def triton_loss(logits, label, ksize=3, **options):
    if not torch.cuda.is_available():
        return mmseg_cpg.ops.cross_entropy_cpg_loss(logits, label, ksize, implementation='triton', **options)
    options = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in options.items()}
    result = mmseg_cpg.ops.cross_entropy_cpg_loss(
        logits.cuda(), label.cuda(), ksize, implementation='triton', **options
    )
    return CrossEntropyCPG(*(value.cpu() for value in result))


def value_and_gradient(logits, label, ksize=3, **options):
    result = triton_loss(logits, label, ksize, **options)
    return result.total.detach(), *torch.autograd.grad(result.total.sum(), logits)


@settings(max_examples=8, deadline=None)
@given(fused.cases(ksizes=(3, 3, 3, 5)), OPTIONS)
def test_losses_and_gradient_are_those_of_the_oracles(case, options):
    logits, label, ksize = case
    if logits.shape[1] == 1:
        options['use_sigmoid'] = True
    check(logits, label, ksize, triton_loss, **options)


@pytest.mark.parametrize(('use_sigmoid', 'ignore_policy'), [(False, 'as_background'), (True, 'exclude')])
def test_several_tiles(use_sigmoid, ignore_policy):
    """Inside the image, at its borders and cut off by them; more classes than the kernels cache the gradients of."""
    label = blobs((1, 17, 66), 11, void=0.02, cell=2)
    label[:, :, 12:20] = 4
    check(random_logits(label, 11), label, 3, triton_loss, use_sigmoid=use_sigmoid, ignore_policy=ignore_policy)


@MAIN_LOSSES
@pytest.mark.parametrize('has_avg_factor', [False, True])
def test_weights(use_sigmoid, has_avg_factor):
    label = blobs((2, 7, 9), 3, void=0.02)
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(label.shape, generator=generator) * (torch.rand(label.shape, generator=generator) < 0.7)
    options = dict(weight=weight, class_weight=[0.5, 2.0, 1.5], cpg_class_weight=[1.0, 0.25, 3.0])
    options |= dict(avg_factor=7.0) if has_avg_factor else dict(avg_non_ignore=True)
    check(random_logits(label, 3), label, 3, triton_loss, use_sigmoid=use_sigmoid, **options)


def test_class_weights_of_any_stride():
    label = blobs((1, 7, 9), 3)
    logits, class_weight = random_logits(label, 3), torch.tensor([0.5, 7.0, 2.0, 7.0, 1.5])[::2]
    results = [
        value_and_gradient(logits, label, class_weight=weight, cpg_class_weight=weight)
        for weight in (class_weight, class_weight.contiguous())
    ]
    assert all(map(torch.equal, *results))


def test_binary_segmentation_with_class_weight():
    label = blobs((2, 9, 17), 2, void=0.02)
    check(random_logits(label, 1), label, 3, triton_loss, use_sigmoid=True, class_weight=[2.5])


@MAIN_LOSSES
def test_values_of_pixels(use_sigmoid):
    label = blobs((1, 12, 17), 3, void=0.02)
    logits = random_logits(label, 3)
    options = dict(use_sigmoid=use_sigmoid, ce_weight=0.5, cpg_weight=2.0)
    result = triton_loss(logits, label, reduction='none', **options)
    error, gradient = cross_entropy(logits.detach(), label, use_sigmoid=use_sigmoid)
    entries = cpg_oracle.boundary(label.numpy(), 3, 3)
    upstream = np.random.default_rng(0).random(label.shape)
    cpg_error, cpg_gradient, _ = cpg_oracle.squared_error(logits.detach(), entries, 3, upstream=upstream)
    torch.testing.assert_close(result.cross_entropy.double(), torch.from_numpy(0.5 * error), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.cpg.double(), torch.from_numpy(2 * cpg_error), rtol=1e-5, atol=1e-6)
    (actual,) = torch.autograd.grad((torch.from_numpy(upstream).float() * result.total).sum(), logits)
    expected = torch.from_numpy(0.5 * upstream[:, None] * gradient + 2 * cpg_gradient)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


@MAIN_LOSSES
@pytest.mark.parametrize('scale', [1e2, 1e30])
def test_confident_logits(use_sigmoid, scale):
    label = blobs((1, 12, 12), 3, void=0.02)
    answer = blobs((1, 12, 12), 3, seed=5)
    logits = (scale * torch.nn.functional.one_hot(answer, 3).movedim(3, 1).float()).requires_grad_()
    check(logits, label, 3, triton_loss, use_sigmoid=use_sigmoid)


@pytest.mark.parametrize(('use_sigmoid', 'value'), [(False, float('nan')), (True, float('inf'))])
def test_void_logits_change_nothing(use_sigmoid, value):
    label = blobs((1, 16, 20), 4)
    label[:, 4:9, 3:17] = 255
    logits = random_logits(label, 4)
    void = (label == 255)[:, None].expand_as(logits)
    expected = value_and_gradient(logits, label, use_sigmoid=use_sigmoid)
    actual = value_and_gradient(
        logits.detach().masked_fill(void, value).requires_grad_(), label, use_sigmoid=use_sigmoid
    )
    assert all(map(torch.equal, actual, expected))
    assert not actual[1][void].any()


def test_softmax_is_not_read_where_only_binary_cross_entropy_counts():
    """An infinite logit of the right class has no error there, though the softmax is NaN."""
    label = torch.zeros(1, 9, 12, dtype=torch.int64)
    label[:, :, 8:] = 1
    logits = torch.zeros(1, 2, 9, 12)
    logits[0, 0, :, :3], logits[0, 1, :, :3] = float('inf'), -float('inf')
    total, gradient = value_and_gradient(logits.requires_grad_(), label, use_sigmoid=True)
    assert total.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[..., :3].any()


@MAIN_LOSSES
def test_nan_that_counts_is_seen(use_sigmoid):
    label = blobs((1, 12, 12), 3)
    logits = random_logits(label, 3).detach()
    logits[0, 1, 4, 7] = float('nan')
    result = triton_loss(logits, label, use_sigmoid=use_sigmoid)
    assert result.cross_entropy.isnan()
    assert result.cpg.isnan()


@MAIN_LOSSES
@pytest.mark.parametrize('label', [torch.full((1, 9, 9), 255), torch.zeros(0, 9, 9, dtype=torch.int64)])
def test_nothing_to_learn_from_is_zero_with_zero_gradient(use_sigmoid, label):
    logits = random_logits(label, 3)
    for options in (dict(avg_non_ignore=True), dict(class_weight=[1.0, 2.0, 3.0]), dict(avg_factor=0)):
        result = triton_loss(logits, label, use_sigmoid=use_sigmoid, **options)
        assert [value.item() for value in result] == [0, 0, 0]
        assert not torch.autograd.grad(result.total, logits)[0].any()


@MAIN_LOSSES
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(use_sigmoid, dtype):
    label = blobs((1, 12, 20), 4)
    logits = random_logits(label, 4, dtype=dtype)
    ce, cpg, expected, _ = oracle(logits, label, 3, use_sigmoid=use_sigmoid)
    total, gradient = value_and_gradient(logits, label, use_sigmoid=use_sigmoid)
    assert total.dtype == torch.float32
    assert gradient.dtype == dtype
    assert abs(total.item() - ce - cpg) <= 1e-5 * (ce + cpg)
    # Rounded once, to the logits' dtype; the smallest ones of float16 are subnormal.
    info = torch.finfo(dtype)
    bound = info.eps * expected.abs() + (info.tiny * info.eps if dtype == torch.float16 else 0) + 1e-8
    assert ((gradient.double() - expected).abs() <= bound).all()


@MAIN_LOSSES
def test_memory_formats_and_label_dtypes(use_sigmoid):
    label = blobs((2, 8, 10), 4, void=0.02)
    logits = random_logits(label, 4).detach()
    sliced = torch.zeros(2, 8, 8, 20)[:, ::2, :, ::2].copy_(logits)
    check(sliced.requires_grad_(), label.to(torch.uint8), 3, triton_loss, use_sigmoid=use_sigmoid)
    channels_last = logits.to(memory_format=torch.channels_last).requires_grad_()
    check(channels_last, label.mT.contiguous().mT, 3, triton_loss, use_sigmoid=use_sigmoid)


def test_precomputed_targets_change_nothing_and_values_need_no_gradient():
    label = blobs((1, 9, 12), 3, void=0.01)
    logits = random_logits(label, 3)
    expected = triton_loss(logits, label)
    with torch.no_grad():
        actual = triton_loss(logits, label, targets=boundary_targets(label, 3))
    assert not actual.total.requires_grad
    assert all(map(torch.equal, actual, expected))


def test_second_derivative_is_refused():
    label = blobs((1, 9, 9), 3)
    logits = random_logits(label, 3)
    with pytest.raises(RuntimeError, match='can be differentiated once only'):
        torch.autograd.grad(triton_loss(logits, label).total, logits, create_graph=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason='on CUDA it is a device assertion')
def test_invalid_ids_are_refused():
    label = torch.full((1, 9, 9), 3)
    with pytest.raises(ValueError, match=r'label must be in \[0, 3\) or ignore_index=255, got 3'):
        triton_loss(random_logits(label, 3), label)
