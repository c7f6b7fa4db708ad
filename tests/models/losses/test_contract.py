"""What every loss guarantees to a decode head, for any batch."""

import copy
import inspect
import pickle
import re
import sys
from functools import partial

import pytest
import torch
import torch._dynamo
from mmseg.registry import MODELS
from torch.utils.checkpoint import checkpoint

import mmseg_cpg
from mmseg_cpg.models.losses.base import SegmentationLoss
from mmseg_cpg.ops import _common
from tests.inputs import WithoutFloat64, blobs, random_logits
from tests.models.losses.tiny_edge_network import tiny_edge_network

NUM_CLASSES = 4

# Configs of the losses, by the name of the test; one for each way through a loss's code.
LOSSES = {
    'BoundaryCrossEntropyLoss': dict(type='BoundaryCrossEntropyLoss', width_px=2),
    'BoundaryF1Loss': dict(type='BoundaryF1Loss'),
    'CPGLoss': dict(type='CPGLoss', ksize=5),
    'CPGLoss sigmoid': dict(type='CPGLoss', use_sigmoid=True, ignore_policy='as_background'),
    'SobelLoss': dict(type='SobelLoss', ksize=5),
    'RMILoss': dict(type='RMILoss'),
    'RMILoss paper': dict(type='RMILoss', preset='paper', radius=2, pool_size=2),
    'LocallyAdaptiveLoss': dict(type='LocallyAdaptiveLoss'),
    'LocallyAdaptiveLoss stride': dict(type='LocallyAdaptiveLoss', ksize=3, stride=2, power=1.5),
    'SEMEDALoss': dict(type='SEMEDALoss', checkpoint=tiny_edge_network(NUM_CLASSES)),
    'SEMEDALoss l1': dict(type='SEMEDALoss', checkpoint=tiny_edge_network(NUM_CLASSES), distance='l1', layers=[1]),
    'ActiveBoundaryLoss': dict(type='ActiveBoundaryLoss'),
    'ActiveBoundaryLoss official': dict(type='ActiveBoundaryLoss', preset='official', boundary_ratio=0.1),
}


# A list of two losses, whose options are those of each and whose arguments are named as in CrossEntropyLoss.
FUSED = {
    'CrossEntropyCPGLoss': dict(
        type='CrossEntropyCPGLoss', cross_entropy=dict(type='CrossEntropyLoss'), cpg=dict(type='CPGLoss', ksize=5)
    ),
}
ALL = {**LOSSES, **FUSED}


@pytest.fixture(params=ALL.values(), ids=ALL.keys())
def loss(request):
    return MODELS.build(request.param)


@pytest.fixture(params=LOSSES.values(), ids=LOSSES.keys())
def single_loss(request):
    """A loss of one value, with all options in one config."""
    return MODELS.build(request.param)


def label_of_blobs():
    """Classes in 5-pixel cells, single void pixels, and a void region."""
    label = blobs((2, 25, 30), NUM_CLASSES, void=0.01)
    label[:, :6, :7] = 255
    return label


def logits_for(label, scale=2.0):
    return random_logits(label, NUM_CLASSES, scale, seed=1)


def value_and_gradient(loss, logits, label, **options):
    value = loss(logits, label, **options)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def test_every_registered_loss_is_tested_here():
    registered = {name for name, module in MODELS.module_dict.items() if issubclass_of_ours(module)}
    assert {config['type'] for config in ALL.values()} == registered


def issubclass_of_ours(module):
    is_loss = isinstance(module, type) and issubclass(module, (SegmentationLoss, mmseg_cpg.CrossEntropyCPGLoss))
    return is_loss and module.__module__.startswith('mmseg_cpg.')


def test_value_is_a_finite_float32_scalar_with_a_gradient(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    value, gradient = value_and_gradient(loss, logits, label)
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert value > 0
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_step_against_the_gradient_lowers_the_loss(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    value, gradient = value_and_gradient(loss, logits, label)
    step = 1e-3 * logits.detach().norm() / gradient.norm()
    assert loss(logits.detach() - step * gradient, label) < value


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision_is_computed_in_float32(loss, dtype, autocast):
    label = label_of_blobs()
    logits = logits_for(label).detach().to(dtype).requires_grad_()
    expected, expected_gradient = value_and_gradient(loss, logits.detach().float().requires_grad_(), label)
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        value, gradient = value_and_gradient(loss, logits, label)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value, expected)
    # Rounded once, to the logits' dtype; the smallest ones of float16 are subnormal.
    assert (gradient.float() - expected_gradient).norm() <= 2 * torch.finfo(dtype).eps * expected_gradient.norm() + 1e-6


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_inputs_are_left_alone(loss, dtype):
    label = label_of_blobs()
    logits = logits_for(label).detach().to(dtype).requires_grad_()
    before = logits.detach().clone(), label.clone()
    loss(logits, label).backward()
    assert torch.equal(logits, before[0])
    assert torch.equal(label, before[1])


def test_upstream_gradient_and_loss_weight_are_factors(single_loss):
    label = label_of_blobs()
    logits = logits_for(label)
    value, gradient = value_and_gradient(single_loss, logits, label)
    (scaled,) = torch.autograd.grad(-3 * single_loss(logits, label), logits)
    torch.testing.assert_close(scaled, -3 * gradient)
    single_loss.loss_weight = 2.5
    torch.testing.assert_close(single_loss(logits, label).detach(), 2.5 * value)


def test_channels_last_gives_the_same(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    expected, expected_gradient = value_and_gradient(loss, logits, label)
    other = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    value, gradient = value_and_gradient(loss, other, label)
    torch.testing.assert_close(value, expected)
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int32])
def test_label_dtypes(loss, dtype):
    label = label_of_blobs()
    logits = logits_for(label)
    assert torch.equal(loss(logits, label.to(dtype)), loss(logits, label))


@pytest.mark.parametrize('ignore_index', [-100, -1, 0, 2, 1000])
def test_any_ignore_index(loss, ignore_index):
    label = label_of_blobs()
    if 0 <= ignore_index < NUM_CLASSES:
        label[label == ignore_index] = (ignore_index + 1) % NUM_CLASSES
    logits = logits_for(label)
    renamed = torch.where(label == 255, ignore_index, label)
    assert torch.equal(loss(logits, renamed, ignore_index=ignore_index), loss(logits, label))


@pytest.mark.parametrize('value', [1e30, float('nan'), float('inf')])
def test_void_logits_change_nothing(single_loss, value):
    if getattr(single_loss, 'ignore_policy', 'exclude') != 'exclude':
        pytest.skip('with as_background the windows of counted pixels read the void')
    if isinstance(single_loss, mmseg_cpg.ActiveBoundaryLoss) and single_loss.preset == 'official':
        pytest.skip('void is a class to the official code, which its neighbors read')
    label = label_of_blobs()
    logits = logits_for(label)
    void = (label == 255)[:, None].expand_as(logits)
    expected, expected_gradient = value_and_gradient(single_loss, logits, label)
    changed, gradient = value_and_gradient(
        single_loss, logits.detach().masked_fill(void, value).requires_grad_(), label
    )
    assert torch.equal(changed, expected)
    assert torch.equal(gradient, expected_gradient)
    assert not gradient[void].any()


@pytest.mark.parametrize(
    'label',
    [
        torch.full((2, 16, 20), 255),
        torch.full((1, 1, 1), 255),
        torch.zeros(0, 16, 20, dtype=torch.int64),
    ],
    ids=['all void', '1x1 void', 'empty batch'],
)
def test_nothing_to_learn_from_is_zero_with_zero_gradient(loss, label):
    value, gradient = value_and_gradient(loss, logits_for(label), label)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize('shape', [(2, 1, 1), (1, 1, 7), (1, 9, 2), (1, 4, 4)])
@pytest.mark.parametrize('seed', [0, None])
def test_tiny_images(loss, shape, seed):
    generator = torch.Generator().manual_seed(seed or 0)
    label = torch.zeros(shape, dtype=torch.int64) if seed is None else torch.randint(4, shape, generator=generator)
    value, gradient = value_and_gradient(loss, logits_for(label), label)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize('class_index', [0, NUM_CLASSES - 1])
@pytest.mark.parametrize('scale', [0, 2, 1e4, 1e30])
def test_one_class_and_logits_of_any_size_stay_finite(loss, class_index, scale):
    """Constant logits (scale 0) included; among the confident ones right and wrong ones."""
    for label in (torch.full((2, 16, 20), class_index), label_of_blobs()):
        value, gradient = value_and_gradient(loss, logits_for(label, scale), label)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize('confidence', [20.0, 1e4])
def test_perfect_prediction_stays_finite(loss, confidence):
    label = torch.where(label_of_blobs() == 255, 0, label_of_blobs())
    logits = confidence * (torch.nn.functional.one_hot(label, NUM_CLASSES).movedim(3, 1) - 0.5)
    value, gradient = value_and_gradient(loss, logits.requires_grad_(), label)
    assert value.isfinite()
    assert gradient.isfinite().all()


LABEL = torch.tensor([[[0, 0, 1, 1]] * 4])
LOGITS = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(pred=[[0.0]]), TypeError, 'logits must be a torch.Tensor, got list'),
        (dict(pred=LOGITS.int()), TypeError, 'logits must have a floating point dtype .* got torch.int32'),
        (dict(pred=LOGITS[0]), ValueError, r'logits must have shape \(B, C, H, W\) .* got \(2, 4, 4\)'),
        (dict(pred=LOGITS[:, :, :3]), ValueError, r'label must have shape .* = \(1, 3, 4\) .* got \(1, 4, 4\)'),
        (dict(target=LABEL[:, None]), ValueError, r'label must have shape .* = \(1, 4, 4\) .* got \(1, 1, 4, 4\)'),
        (dict(target=LABEL.float()), TypeError, 'label must have an integer dtype, got torch.float32'),
        (dict(target=LABEL * 2), ValueError, r'label must be in \[0, 2\) or ignore_index=255, got 2'),
        (dict(target=LABEL - 1), ValueError, r'label must be in \[0, 2\) or ignore_index=255, got -1'),
        (dict(ignore_index=None), TypeError, 'ignore_index must be an int, got None'),
        (dict(reduction_override='max'), ValueError, "reduction.* must be .*, got 'max'"),
        (dict(weight=torch.ones(4, 4)), ValueError, r'weight must .*, got .*\(4, 4\)'),
    ],
)
def test_bad_input_is_named(single_loss, changes, error, message):
    with pytest.raises(error, match=message):
        single_loss(**{'pred': LOGITS, 'target': LABEL, **changes})


@pytest.mark.parametrize(
    ('loss_weight', 'error'), [(float('nan'), ValueError), ('1', TypeError), (None, TypeError), (True, TypeError)]
)
@pytest.mark.parametrize('config', LOSSES.values(), ids=LOSSES.keys())
def test_bad_loss_weight_is_refused_when_the_model_is_built(config, loss_weight, error):
    with pytest.raises(error, match=r'loss_weight must be a finite number, got .*'):
        MODELS.build(dict(config, loss_weight=loss_weight))


def takes_class_weight(config):
    return 'class_weight' in inspect.signature(MODELS.get(config['type'])).parameters


CLASS_WEIGHTED = {name: config for name, config in LOSSES.items() if takes_class_weight(config)}


@pytest.mark.parametrize('config', CLASS_WEIGHTED.values(), ids=CLASS_WEIGHTED.keys())
def test_class_weight_stays_exact_in_a_half_precision_model(config):
    """1e5 is infinite in float16, and 0.8373 is not the same there."""
    loss = MODELS.build(dict(config, class_weight=[1e5, 0.8373, 1.0, 1.0]))
    label = label_of_blobs()
    logits = logits_for(label)
    expected = loss(logits, label)
    assert torch.equal(loss.half()(logits, label), expected)


@pytest.mark.parametrize('class_weight', [3, [], ['a', 'b'], [1.0, float('nan')], [[1.0, 2.0]]])
@pytest.mark.parametrize('config', CLASS_WEIGHTED.values(), ids=CLASS_WEIGHTED.keys())
def test_bad_class_weight_is_refused_when_the_model_is_built(config, class_weight):
    message = re.escape(f'class_weight must be a list of finite numbers, one for each class, got {class_weight}')
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(config, class_weight=class_weight))


@pytest.mark.parametrize('loss_name', [None, 3])
@pytest.mark.parametrize('config', LOSSES.values(), ids=LOSSES.keys())
def test_bad_loss_name_is_refused_when_the_model_is_built(config, loss_name):
    with pytest.raises(TypeError, match=f'loss_name must be a str, got {loss_name}'):
        MODELS.build(dict(config, loss_name=loss_name))


@pytest.mark.parametrize('config', LOSSES.values(), ids=LOSSES.keys())
def test_built_by_dotted_name_too(config):
    loss = MODELS.build(dict(config, type=f'mmseg_cpg.{config["type"]}', loss_name='loss_other'))
    assert type(loss) is getattr(mmseg_cpg, config['type'])
    assert loss.loss_name == 'loss_other'


@pytest.mark.parametrize('config', LOSSES.values(), ids=LOSSES.keys())
def test_bad_reduction_is_refused_when_the_model_is_built(config):
    if config['type'] == 'BoundaryF1Loss':
        pytest.skip('a score has no choice of reductions')
    with pytest.raises(ValueError, match=r"reduction must be .*, got 'median'"):
        MODELS.build(dict(config, reduction='median'))


def test_names_in_the_log_differ():
    names = {config['type']: MODELS.build(config).loss_name for config in ALL.values()}
    assert all(name.startswith('loss_') for name in names.values())
    assert len({*names.values()}) == len(names)


def test_checkpoints_are_those_of_a_model_without_the_loss(loss):
    assert not loss.state_dict()
    assert not [*loss.parameters()]


@pytest.mark.parametrize('step', [1, 7])
def test_parts_that_are_worked_on_at_a_time_make_no_difference(loss, step, monkeypatch):
    label = label_of_blobs()
    logits = logits_for(label).detach().double().requires_grad_()  # sums in another order: some 1e-16 of their terms
    expected, expected_gradient = value_and_gradient(loss, logits, label)
    for name, module in sys.modules.items():
        if name.startswith('mmseg_cpg.ops.') and hasattr(module, 'chunk_slices'):
            monkeypatch.setattr(module, 'chunk_slices', partial(slices_of, step))
    value, gradient = value_and_gradient(loss, logits, label)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)
    assert (gradient - expected_gradient).norm() <= 1e-8 * expected_gradient.norm()


def slices_of(step, length, *_):
    return [slice(start, min(start + step, length)) for start in range(0, max(length, 1), step)]


def test_backward_can_be_repeated(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    value = loss(logits, label)
    (first,) = torch.autograd.grad(value, logits, retain_graph=True)
    (second,) = torch.autograd.grad(value, logits)
    assert torch.equal(first, second)


def test_a_second_derivative_is_there_or_refused(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    try:
        (gradient,) = torch.autograd.grad(loss(logits, label), logits, create_graph=True)
    except RuntimeError as error:
        assert 'can be differentiated once only' in str(error)
    else:
        assert gradient.requires_grad


def test_compiled_model(loss):
    label = label_of_blobs()
    layer = torch.nn.Conv2d(3, NUM_CLASSES, 1)
    images = torch.randn(2, 3, *label.shape[1:], generator=torch.Generator().manual_seed(0))

    def step(images):
        return loss(layer(images), label)

    (expected,) = torch.autograd.grad(step(images), layer.weight)
    (gradient,) = torch.autograd.grad(torch.compile(step, backend='aot_eager')(images), layer.weight)
    torch.testing.assert_close(gradient, expected)


def test_copies_work(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(other(logits, label), loss(logits, label))


def test_compiled_gives_the_same_and_does_not_warn(loss):
    """torch.compile warns of ``item()``, which the checks of the label call on CPU."""
    label = label_of_blobs()
    logits = logits_for(label)
    expected = value_and_gradient(loss, logits, label)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = value_and_gradient(torch.compile(loss, backend='aot_eager'), logits, label)
    assert all(map(torch.equal, compiled, expected))
    assert not any('item()' in reason for reason in torch._dynamo.utils.counters['graph_break'])


@pytest.mark.parametrize('config', ALL.values(), ids=ALL.keys())
def test_built_on_the_meta_device(config):
    """As large models are built before their checkpoint is loaded, which has no constants of a loss."""
    if takes_class_weight(config):
        config = dict(config, class_weight=[0.5, 1.5, 2.0, 0.8373])
    label = label_of_blobs()
    logits = logits_for(label)
    expected = value_and_gradient(MODELS.build(config), logits, label)
    with torch.device('meta'):
        loss = MODELS.build(config)
    assert all(map(torch.equal, value_and_gradient(loss.to_empty(device='cpu'), logits, label), expected))


def test_activation_checkpointing(loss):
    label = label_of_blobs()
    logits = logits_for(label)
    expected = value_and_gradient(loss, logits, label)
    value = checkpoint(loss, logits, label, use_reentrant=False)
    assert torch.equal(value.detach(), expected[0])
    assert torch.equal(*torch.autograd.grad(value, logits), expected[1])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('default', [torch.float16, torch.bfloat16, torch.float64])
def test_default_dtype_changes_nothing(loss, dtype, default, default_dtype):
    label = label_of_blobs()
    logits = logits_for(label).detach().to(dtype).requires_grad_()
    expected = value_and_gradient(loss, logits, label)
    default_dtype(default)
    value, gradient = value_and_gradient(copy.deepcopy(loss), logits, label)
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient, expected[1])


@pytest.fixture
def default_dtype():
    before = torch.get_default_dtype()
    yield torch.set_default_dtype
    torch.set_default_dtype(before)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_devices_without_float64(loss, dtype, monkeypatch):
    label = label_of_blobs()
    logits = logits_for(label).detach().to(dtype)
    expected = value_and_gradient(loss, logits.clone().requires_grad_(), label)
    monkeypatch.setattr(_common, 'has_float64', lambda device: False)
    logits = logits.as_subclass(WithoutFloat64).requires_grad_()
    found = value_and_gradient(loss, logits, label.as_subclass(WithoutFloat64))
    assert all(torch.equal(*map(torch.Tensor.cpu, pair)) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize('config', ALL.values(), ids=ALL.keys())
def test_torch_func(config):
    """It works where autograd makes the gradient, and is refused where a backward of our own does."""
    label = label_of_blobs()
    logits = logits_for(label)
    loss = MODELS.build(config)
    _, expected = value_and_gradient(loss, logits, label)
    if config['type'] in ('BoundaryCrossEntropyLoss', 'RMILoss', 'SEMEDALoss'):
        torch.testing.assert_close(torch.func.grad(loss)(logits.detach(), label), expected)
    else:
        with pytest.raises(
            RuntimeError, match=r'cannot be transformed by torch\.func: its gradient is written by hand'
        ):
            torch.func.grad(loss)(logits.detach(), label)
