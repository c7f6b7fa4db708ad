import copy

import pytest
import torch
import torch.nn as nn
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from mmseg_cpg import SEMEDALoss
from mmseg_cpg.models.edge_network import load_edge_layers
from mmseg_cpg.ops import semeda_loss
from tests.models.decode_heads.test_stock_heads import BN, CE, batch, build, deeplabv3
from tests.models.losses.tiny_edge_network import tiny_edge_network

NUM_CLASSES = 4
CHECKPOINT = tiny_edge_network(NUM_CLASSES)
SEMEDA = dict(type='SEMEDALoss', checkpoint=CHECKPOINT)
LABEL = torch.tensor([[[0, 0, 1, 1, 255]] * 6 + [[2, 2, 2, 3, 3]] * 4])
LOGITS = torch.randn(1, NUM_CLASSES, 10, 5, generator=torch.Generator().manual_seed(0))


def is_untouched(loss):
    trained = load_edge_layers(CHECKPOINT)
    return all(torch.equal(*pair) for one in zip(loss.network, trained, strict=True) for pair in zip(*one, strict=True))


def test_arguments_reach_the_function():
    weight = torch.rand(LABEL.shape, generator=torch.Generator().manual_seed(1))
    label = LABEL.masked_fill(LABEL == 255, 7)
    loss = SEMEDALoss(CHECKPOINT, [1], 'l1', 3.0, 'sum')
    options = dict(network=load_edge_layers(CHECKPOINT), layers=[1], distance='l1', ignore_index=7, weight=weight)
    expected = 3 * semeda_loss(LOGITS, label, reduction='sum', **options)
    assert torch.equal(loss(LOGITS, label, weight=weight, ignore_index=7), expected)
    expected = 3 * semeda_loss(LOGITS, label, avg_factor=4, **options)
    actual = loss(LOGITS, label, weight=weight, avg_factor=4, reduction_override='mean', ignore_index=7)
    assert torch.equal(actual, expected)


def test_binary_with_one_channel_takes_a_network_for_two_classes():
    loss = SEMEDALoss(tiny_edge_network(2))
    label, logits = LABEL.clamp(max=1), LOGITS[:, :1]
    expected = loss(torch.cat([torch.zeros_like(logits), logits], 1), label)
    torch.testing.assert_close(loss(logits, label), expected)


def test_the_network_is_neither_rounded_nor_lost_with_the_models_weights():
    loss = SEMEDALoss(CHECKPOINT)
    expected = loss(LOGITS, LABEL)
    for changed in (loss.half(), loss.double(), loss.to('meta').to_empty(device='cpu')):
        assert is_untouched(changed)
        assert torch.equal(changed(LOGITS, LABEL), expected)


def test_checkpoints_and_optimizer_are_those_of_a_model_without_the_loss():
    with_loss, without = build(deeplabv3([CE, SEMEDA])), build(deeplabv3([CE]))
    with_loss.load_state_dict(without.state_dict(), strict=True)
    without.load_state_dict(with_loss.state_dict(), strict=True)
    assert is_untouched(with_loss.decode_head.loss_decode[1])
    config = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, weight_decay=0.1))
    for constructor in (dict(), dict(paramwise_cfg=dict(norm_decay_mult=0.0))):
        counts = [
            sum(len(group['params']) for group in build_optim_wrapper(model, {**config, **constructor}).param_groups)
            for model in (with_loss, without)
        ]
        assert counts[0] == counts[1]


def test_training_leaves_the_network_as_it_is():
    model = build(deeplabv3([CE, SEMEDA]))
    average = ExponentialMovingAverage(model, update_buffers=True)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1))
    before = copy.deepcopy(model.decode_head.conv_seg.weight)
    assert torch.isfinite(model.train_step(batch(64), optimizer)['decode.loss_semeda'])
    average.update_parameters(model)
    assert not torch.equal(model.decode_head.conv_seg.weight, before)
    assert is_untouched(model.decode_head.loss_decode[1])
    assert is_untouched(average.module.decode_head.loss_decode[1])


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group('gloo', f'file://{tmp_path}/meet', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('find_unused_parameters', [False, True])
def test_distributed(process_group, find_unused_parameters):
    model = MMDistributedDataParallel(
        build(deeplabv3([CE, SEMEDA])), broadcast_buffers=True, find_unused_parameters=find_unused_parameters
    )
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in range(2):
        assert torch.isfinite(model.train_step(batch(64), optimizer)['decode.loss_semeda'])
    assert is_untouched(model.module.decode_head.loss_decode[1])


def test_heads_that_initialize_all_their_convolutions_spare_the_network():
    register_all_modules(init_default_scope=True)
    head = MODELS.build(
        dict(type='DDRHead', in_channels=8, channels=8, num_classes=NUM_CLASSES, norm_cfg=BN, loss_decode=[CE, SEMEDA])
    )
    head.init_weights()
    head.apply(lambda module: [nn.init.zeros_(parameter) for parameter in module.parameters()])
    assert is_untouched(head.loss_decode[1])


def test_a_network_for_other_classes_is_named():
    with pytest.raises(ValueError, match='must have the 2 classes of the logits, got 4'):
        SEMEDALoss(CHECKPOINT)(LOGITS[:, :2], LABEL.clamp(max=1))


def test_a_missing_file_names_the_command():
    command = 'python tools/train_edge_network.py CONFIG --work-dir work_dirs/edges'
    with pytest.raises(ValueError, match=f"'work_dirs/edges/edge_network.pth' not found. .* {command}$"):
        SEMEDALoss('work_dirs/edges/edge_network.pth')
    with pytest.raises(ValueError, match=f'{command}, which writes edge_network.pth there$'):
        SEMEDALoss('work_dirs/edges/other.pth')


def test_a_file_without_an_edge_network_is_refused(tmp_path):
    path = tmp_path / 'segmentor.pth'
    torch.save(dict(state_dict=nn.Conv2d(1, 1, 1).state_dict()), path)
    with pytest.raises(ValueError, match=r'segmentor.pth. does not contain an edge network'):
        SEMEDALoss(str(path))
    torch.save([1], path)
    with pytest.raises(ValueError, match=r'segmentor.pth. does not contain an edge network'):
        SEMEDALoss(str(path))


def test_a_network_that_is_not_finite_is_refused(tmp_path):
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    checkpoint['state_dict']['layers.1.bias'][0] = float('nan')
    path = tmp_path / 'diverged.pth'
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r'diverged.pth. is unusable: some of its weights are not finite'):
        SEMEDALoss(str(path))


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        (dict(checkpoint=None), TypeError),
        (dict(distance='cosine'), ValueError),
        (dict(distance=['l1']), ValueError),
        (dict(layers=[5]), ValueError),
        (dict(layers=1), ValueError),
        (dict(layers=[0.0]), ValueError),
    ],
)
def test_bad_arguments_are_refused_when_the_model_is_built(arguments, error):
    (value,) = arguments.values()
    with pytest.raises(error, match=f"got '?{value}'?".replace('[', r'\[')):
        SEMEDALoss(**{'checkpoint': CHECKPOINT, **arguments})
