"""Precomputed targets give the losses and gradients found on the fly, and never meet another label."""

import copy
import importlib
import logging
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS

from mmseg_cpg import BoundaryDistanceFromLabel, BoundaryMaskFromLabel, BoundaryTargetHook, CPGLoss
from mmseg_cpg.models.losses.precomputable import PrecomputableLoss
from mmseg_cpg.ops import boundary_distance
from mmseg_cpg.ops.cpg import sparse
from mmseg_cpg.ops.cpg.targets import targets_of_batch
from tests.models.decode_heads.test_stock_heads import BN, CE, CPG, batch, build, deeplabv3, ocrnet

ABL = dict(type='ActiveBoundaryLoss')
SIZE_PX = 64


@MODELS.register_module()
class ShiftingHead(FCNHead):
    """As PIDHead does, hands its losses a label that is not the loaded one."""

    def loss_by_feat(self, seg_logits, batch_data_samples):
        shifted = copy.deepcopy(batch_data_samples)
        for sample in shifted:
            sample.gt_sem_seg.data = sample.gt_sem_seg.data.roll(5, -1)
        return super().loss_by_feat(seg_logits, shifted)


def attach(model):
    hook = BoundaryTargetHook()
    hook.before_train(SimpleNamespace(model=model, logger=logging.getLogger(__name__)))
    return hook


def detach(hook, model):
    hook.after_train(SimpleNamespace(model=model))


def loaded(ksize=3, size_px=SIZE_PX, shift=0, **transform):
    """A batch as the data loader gives it; ``shift`` makes another one of the same size."""
    data = batch(size_px)
    for sample in data['data_samples']:
        sample.gt_sem_seg.data = sample.gt_sem_seg.data.roll(shift, -1)
        sample.set_metainfo(dict(ori_shape=(size_px, size_px)))
        BoundaryMaskFromLabel(ksize=ksize, **transform)(dict(data_samples=sample))
    return data


def plain(data):
    """The batch without targets."""
    data = copy.deepcopy(data)
    for sample in data['data_samples']:
        sample.pop('gt_boundary')
    return data


def losses_of(model, data, training=True):
    return model(**model.data_preprocessor(copy.deepcopy(data), training), mode='loss')


def cpg_losses(model):
    return [module for module in model.modules() if isinstance(module, CPGLoss)]


def gradients(model, losses):
    total, _ = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.fixture
def on_the_fly(monkeypatch):
    """The arguments of every search for a boundary that the losses make themselves."""
    calls = []

    def spy(label, options, num_classes):
        calls.append((tuple(label.shape), options.ksize))
        return targets_of_batch(label, options, num_classes)

    monkeypatch.setattr(sparse, 'targets_of_batch', spy)
    return calls


@contextmanager
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


@pytest.mark.parametrize('ignore_policy', ['exclude', 'as_background'])
@pytest.mark.parametrize('pad_size', [None, (80, 96)])
@pytest.mark.parametrize('network', [deeplabv3, ocrnet])
def test_losses_and_gradients_are_the_same_to_the_bit(network, pad_size, ignore_policy, on_the_fly):
    model = build(network([CE, dict(CPG, ignore_policy=ignore_policy), dict(CPG, ksize=7, loss_name='loss_cpg7')]))
    if pad_size:
        model.data_preprocessor.size, model.data_preprocessor.size_divisor = pad_size, None
    cpg_losses(model)[1].ignore_policy = ignore_policy
    data = loaded(ksize=[3, 7], ignore_policy=ignore_policy, pad_size=pad_size)
    expected = losses_of(model, plain(data))
    expected_gradients = gradients(model, expected)
    assert len(on_the_fly) == 2
    attach(model)
    with no_warnings():
        actual = losses_of(model, data)
    assert len(on_the_fly) == 2
    assert_same(actual, expected)
    assert_same(gradients(model, actual), expected_gradients)
    assert all(loss.precomputed == () for loss in cpg_losses(model))


def test_sizes_padded_to_multiples(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    model.data_preprocessor.size, model.data_preprocessor.size_divisor = None, 48
    data = loaded(size_divisor=48)
    expected = losses_of(model, plain(data))
    assert len(on_the_fly) == 1
    attach(model)
    with no_warnings():
        assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 1


def test_read_twice_with_ohem_and_in_the_auxiliary_head(on_the_fly):
    config = deeplabv3([CE, CPG])
    config['decode_head']['sampler'] = dict(type='OHEMPixelSampler', min_kept=500)  # calls every loss once more
    config['auxiliary_head']['loss_decode'] = [CE, CPG]
    model = build(config)
    data = loaded()
    expected = losses_of(model, plain(data))
    assert len(on_the_fly) == 3
    attach(model)
    assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 3


def test_under_autocast(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    data = loaded()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        expected = losses_of(model, plain(data))
        attach(model)
        assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 1


@pytest.mark.parametrize('accumulate', [1, 2])
def test_training_steps(on_the_fly, accumulate):
    logs = []
    for with_targets in (False, True):
        model = build(ocrnet([CE, CPG]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        optimizer = OptimWrapper(optimizer, accumulative_counts=accumulate)
        if with_targets:
            attach(model)
        for shift in (0, 7, 13, 21):
            data = loaded(shift=shift)
            logs.append(model.train_step(data if with_targets else plain(data), optimizer))
    assert len(on_the_fly) == 4
    for actual, expected in zip(logs[4:], logs[:4], strict=True):
        assert_same(actual, expected)


def test_distributed(tmp_path, on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    expected = losses_of(model, plain(loaded()))
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    try:
        model.test_cfg = ConfigDict(mode='whole')
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
        attach(wrapped)
        log = wrapped.train_step(loaded(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)))
        assert torch.equal(log['decode.loss_cpg'], expected['decode.loss_cpg'])
        assert len(on_the_fly) == 1
        wrapped.eval()
        wrapped.val_step(loaded())
    finally:
        torch.distributed.destroy_process_group()
    assert all(loss.precomputed == () for loss in cpg_losses(model))


def test_a_skipped_batch_leaves_nothing_behind():
    model = build(deeplabv3([CE, CPG]))
    skipped, other = loaded(), loaded(shift=11)
    expected = losses_of(model, plain(other))
    attach(model)
    model.data_preprocessor(skipped, True)
    assert_same(losses_of(model, plain(other)), expected)


def test_batches_preprocessed_ahead_keep_their_own_targets(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    batches = [loaded(), loaded(shift=11)]
    expected = [losses_of(model, plain(data)) for data in batches]
    assert not torch.equal(*(losses['decode.loss_cpg'] for losses in expected))
    attach(model)
    for data, losses in zip([model.data_preprocessor(data, True) for data in batches], expected, strict=True):
        assert_same(model(**data, mode='loss'), losses)
    assert len(on_the_fly) == 2


@pytest.mark.parametrize('where', ['backbone', 'decode_head', 'auxiliary_head'])
def test_an_exception_in_the_middle_of_a_step(where, monkeypatch):
    model = build(deeplabv3([CE, CPG]))
    other = plain(loaded(shift=11))
    expected = losses_of(model, other)

    def fail(*args):
        raise RuntimeError('out of memory')

    attach(model)
    with monkeypatch.context() as patch:
        patch.setattr(getattr(model, where), 'forward', fail)
        with pytest.raises(RuntimeError, match='out of memory'):
            losses_of(model, loaded())
    assert cpg_losses(model)[0].precomputed == ()
    assert_same(losses_of(model, other), expected)
    prepared = model.data_preprocessor(other, True)  # without the segmentor's forward, and so without the hook
    assert_same(model.loss(**prepared), expected)


def test_one_batch_with_targets_and_one_without(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    data = loaded()
    expected = losses_of(model, plain(data))
    data['data_samples'][1].pop('gt_boundary')
    attach(model)
    assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 2


def test_says_once_what_the_losses_use(caplog):
    model = build(deeplabv3([CE, CPG]))
    attach(model)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            losses_of(model, loaded(ksize=[3, 5]))
    assert [record.getMessage() for record in caplog.records] == [
        'CPG losses use precomputed boundaries, of ksize 3, 5.'
    ]


def test_says_once_that_the_transform_is_missing(caplog, on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    attach(model)
    for _ in range(2):
        losses_of(model, plain(loaded()))
    assert len(on_the_fly) == 2
    (record,) = caplog.records
    assert 'put mmseg_cpg.BoundaryMaskFromLabel after PackSegInputs' in record.getMessage()


@pytest.mark.parametrize('loss', [dict(CPG, implementation='dense'), dict(ABL, preset='official')])
def test_nothing_is_missing_for_losses_that_ignore_targets(loss, caplog):
    model = build(deeplabv3([CE, loss]))
    attach(model)
    with caplog.at_level(logging.WARNING, __name__), no_warnings():
        losses_of(model, plain(loaded()))
    assert not [record for record in caplog.records if record.name == __name__]


def test_batch_augments_that_change_labels():
    def shift(inputs, samples):
        for sample in samples:
            sample.gt_sem_seg.data = sample.gt_sem_seg.data.roll(9, -1)
        return inputs, samples

    model = build(deeplabv3([CE, CPG]))
    data = loaded()
    unchanged = losses_of(model, plain(data))
    model.data_preprocessor.batch_augments = shift
    expected = losses_of(model, plain(data))
    assert not torch.equal(expected['decode.loss_cpg'], unchanged['decode.loss_cpg'])
    attach(model)
    assert_same(losses_of(model, data), expected)


def test_validation_between_training_steps(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    model.test_cfg = ConfigDict(mode='whole')
    train, val = loaded(), loaded(shift=11)
    attach(model)
    trained = losses_of(model, train)
    assert on_the_fly == []
    model.eval()
    model.val_step(copy.deepcopy(val))
    assert cpg_losses(model)[0].precomputed == ()
    losses_of(model, val, training=False)
    assert len(on_the_fly) == 1
    model.train()
    assert torch.equal(losses_of(model, train)['decode.loss_cpg'], trained['decode.loss_cpg'])
    assert len(on_the_fly) == 1


def test_two_losses_of_which_one_has_targets(on_the_fly):
    model = build(deeplabv3([CE, CPG, dict(CPG, ksize=7, loss_name='loss_cpg7')]))
    data = loaded(ksize=3)
    expected = losses_of(model, plain(data))
    on_the_fly.clear()
    attach(model)
    with pytest.warns(UserWarning, match=r'needs .*\(\(2, 64, 64\), 7, 255, .* computed \(\(2, 64, 64\), 3, 255, '):
        assert_same(losses_of(model, data), expected)
    assert on_the_fly == [((2, 64, 64), 7)]
    with no_warnings():
        losses_of(model, data)


@pytest.mark.parametrize('transform', [dict(ignore_policy='as_background'), dict(ignore_index=3, seg_pad_val=3)])
def test_targets_made_with_other_settings(transform, on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    model.data_preprocessor.seg_pad_val = transform.get('seg_pad_val', 255)
    data = loaded(**transform)
    expected = losses_of(model, plain(data))
    attach(model)
    with pytest.warns(UserWarning, match='CPGLoss ignores its precomputed targets'):
        assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 2


def test_padding_that_the_transform_did_not_know(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    model.data_preprocessor.size, model.data_preprocessor.size_divisor = (80, 96), None
    data = loaded()
    expected = losses_of(model, plain(data))
    attach(model)
    with pytest.warns(UserWarning, match=r'labels of \(64, 64\) pixels.*padded them to \(80, 96\).*as pad_size'):
        assert_same(losses_of(model, data), expected)
    with no_warnings():
        losses_of(model, data)
    assert len(on_the_fly) == 3


def test_images_of_different_sizes_without_pad_size(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    data, small = loaded(), loaded(size_px=48)
    data = {name: [data[name][0], small[name][1]] for name in data}
    expected = losses_of(model, plain(data))
    attach(model)
    with pytest.warns(UserWarning, match=r'labels of \(48, 48\), \(64, 64\) pixels.*padded them to \(64, 64\)'):
        assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 2


def test_padding_with_a_class_is_refused():
    model = build(deeplabv3([CE, CPG]))
    model.data_preprocessor.seg_pad_val = 0
    attach(model)
    with pytest.raises(ValueError, match=r'seg_pad_val must be .* ignore_index=255, got 0'):
        losses_of(model, loaded())
    assert cpg_losses(model)[0].precomputed == ()


def test_heads_that_change_the_label_get_none(on_the_fly, caplog):
    config = deeplabv3([CE, CPG])
    settings = dict(in_channels=32, in_index=2, channels=16, num_classes=4, num_convs=1, norm_cfg=BN, dropout_ratio=0)
    config['auxiliary_head'] = dict(type='ShiftingHead', loss_decode=CPG, **settings)
    model = build(config)
    data = loaded()
    expected = losses_of(model, plain(data))
    on_the_fly.clear()
    with caplog.at_level(logging.INFO):
        attach(model)
    assert 'ShiftingHead overrides loss_by_feat' in caplog.text
    assert_same(losses_of(model, data), expected)
    assert len(on_the_fly) == 1


def test_a_copy_of_the_model_finds_the_boundary_itself(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    attach(model)
    twin = copy.deepcopy(model)
    data = loaded()
    assert_same(losses_of(twin, data), losses_of(model, data))
    assert len(on_the_fly) == 1


def test_attached_once_and_detached_after_training(on_the_fly):
    model = build(deeplabv3([CE, CPG]))
    hook = attach(model)
    hook.before_train(SimpleNamespace(model=model, logger=logging.getLogger(__name__)))
    assert len(model._forward_pre_hooks) == len(model._forward_hooks) == 1
    detach(hook, model)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    losses_of(model, loaded())
    assert len(on_the_fly) == 1


def test_built_by_dotted_name():
    assert isinstance(HOOKS.build(dict(type='mmseg_cpg.BoundaryTargetHook')), BoundaryTargetHook)


def with_distance(data, **transform):
    """A batch with what the Active Boundary Loss takes, too."""
    for sample in data['data_samples']:
        BoundaryDistanceFromLabel(**transform)(dict(data_samples=sample))
    return data


@pytest.fixture
def distances(monkeypatch):
    """The shapes of the labels whose distances the losses compute themselves."""
    calls = []

    def spy(label, **options):
        calls.append(tuple(label.shape))
        return boundary_distance(label, **options)

    monkeypatch.setattr(importlib.import_module('mmseg_cpg.ops.active_boundary'), 'boundary_distance', spy)
    return calls


@pytest.mark.parametrize('pad_size', [None, (80, 96)])
@pytest.mark.parametrize('network', [deeplabv3, ocrnet])
def test_each_loss_gets_its_own_targets(network, pad_size, on_the_fly, distances, caplog):
    model = build(network([CE, CPG, ABL]))
    if pad_size:
        model.data_preprocessor.size, model.data_preprocessor.size_divisor = pad_size, None
    data = with_distance(loaded(pad_size=pad_size), pad_size=pad_size)
    expected = losses_of(model, plain(data))
    expected_gradients = gradients(model, expected)
    assert any('loss_abl' in name and value > 0 for name, value in expected.items())
    assert len(on_the_fly) == len(distances) == 1
    with caplog.at_level(logging.INFO):
        attach(model)
        with no_warnings():
            actual = losses_of(model, data)
    assert len(on_the_fly) == len(distances) == 1
    assert_same(actual, expected)
    assert_same(gradients(model, actual), expected_gradients)
    assert all(each.precomputed == () for each in model.modules() if isinstance(each, PrecomputableLoss))
    assert [record.getMessage() for record in caplog.records] == [
        'CPG losses use precomputed boundaries, of ksize 3.',
        'Active Boundary losses use precomputed boundaries.',
    ]


@pytest.mark.parametrize('missing', ['BoundaryMaskFromLabel', 'BoundaryDistanceFromLabel'])
def test_only_one_of_two_transforms(missing, on_the_fly, distances, caplog):
    model = build(deeplabv3([CE, CPG, ABL]))
    data = loaded()
    if missing == 'BoundaryMaskFromLabel':
        data = with_distance(plain(data))
    expected = losses_of(model, plain(data))
    attach(model)
    for _ in range(2):
        assert_same(losses_of(model, data), expected)
    mask_is_missing = missing == 'BoundaryMaskFromLabel'
    assert (len(on_the_fly), len(distances)) == ((3, 1) if mask_is_missing else (1, 3))
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert f'put mmseg_cpg.{missing} after PackSegInputs' in record.getMessage()


def test_padding_that_one_of_two_transforms_did_not_know(on_the_fly, distances):
    model = build(deeplabv3([CE, CPG, ABL]))
    model.data_preprocessor.size, model.data_preprocessor.size_divisor = (80, 96), None
    data = with_distance(loaded(pad_size=(80, 96)))
    expected = losses_of(model, plain(data))
    attach(model)
    with pytest.warns(UserWarning, match='Active Boundary .* size to mmseg_cpg.BoundaryDistanceFromLabel'):
        assert_same(losses_of(model, data), expected)
    assert (len(on_the_fly), len(distances)) == (1, 2)


def test_distances_and_labels_that_change(distances):
    config = deeplabv3([CE, ABL])
    settings = dict(in_channels=32, in_index=2, channels=16, num_classes=4, num_convs=1, norm_cfg=BN, dropout_ratio=0)
    config['auxiliary_head'] = dict(type='ShiftingHead', loss_decode=ABL, **settings)
    model = build(config)
    data = with_distance(loaded())
    expected = losses_of(model, plain(data))
    attach(model)
    assert_same(losses_of(model, data), expected)
    assert len(distances) == 3
    model.data_preprocessor.batch_augments = lambda inputs, samples: (inputs, samples)
    assert_same(losses_of(model, data), expected)
    assert len(distances) == 5


def test_distances_with_ohem_and_another_void(distances):
    config = deeplabv3([CE, ABL])
    config['decode_head']['sampler'] = dict(type='OHEMPixelSampler', min_kept=500)
    model = build(config)
    expected = losses_of(model, plain(loaded()))
    assert len(distances) == 2
    attach(model)
    assert_same(losses_of(model, with_distance(loaded())), expected)
    assert len(distances) == 2
    model.data_preprocessor.seg_pad_val = 0
    with pytest.raises(ValueError, match=r"seg_pad_val must be .*BoundaryDistanceFromLabel's ignore_index=255, got 0"):
        losses_of(model, with_distance(plain(loaded())))
