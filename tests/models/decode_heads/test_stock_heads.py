"""CPGLoss as ``loss_decode`` of stock heads: alone, in a list, on cascades and auxiliary heads, with OHEM and AMP."""

import copy

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

import mmseg_cpg  # noqa: F401
from mmseg_cpg.ops import cpg_loss

BN = dict(type='BN')
CE = dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True)
CPG = dict(type='CPGLoss', ksize=3, loss_weight=1.0)
RESNET = dict(
    type='ResNetV1c',
    depth=18,
    base_channels=8,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    norm_cfg=BN,
    contract_dilation=True,
)
NUM_CLASSES = 4


def head(type, **kwargs):
    settings = dict(in_channels=64, in_index=3, channels=16, num_classes=NUM_CLASSES, norm_cfg=BN, dropout_ratio=0)
    return dict(type=type, **{**settings, **kwargs})


def fcn(**kwargs):
    return head('FCNHead', num_convs=1, **kwargs)


def deeplabv3(loss):
    return dict(
        type='EncoderDecoder',
        backbone=RESNET,
        decode_head=head('ASPPHead', dilations=(1, 2), loss_decode=loss),
        auxiliary_head=fcn(in_channels=32, in_index=2, loss_decode=dict(CE, loss_weight=0.4)),
    )


def ocrnet(loss):
    return dict(
        type='CascadeEncoderDecoder',
        num_stages=2,
        backbone=RESNET,
        decode_head=[fcn(loss_decode=dict(CE, loss_weight=0.4)), head('OCRHead', ocr_channels=16, loss_decode=loss)],
    )


def lraspp(loss):
    return dict(
        type='EncoderDecoder',
        backbone=dict(type='MobileNetV3', arch='small', out_indices=(0, 1, 12), norm_cfg=BN),
        decode_head=dict(
            type='LRASPPHead',
            in_channels=(16, 16, 576),
            in_index=(0, 1, 2),
            channels=16,
            input_transform='multiple_select',
            num_classes=NUM_CLASSES,
            norm_cfg=BN,
            act_cfg=dict(type='ReLU'),
            dropout_ratio=0,
            loss_decode=loss,
        ),
    )


def build(config, **settings):
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    preprocessor = dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3, size_divisor=16)
    settings = dict(data_preprocessor=preprocessor, train_cfg=dict(), test_cfg=dict(mode='whole'), **settings)
    return revert_sync_batchnorm(MODELS.build({**copy.deepcopy(config), **settings}))


def batch(size_px, num_classes=NUM_CLASSES):
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(num_classes, (2, 1, size_px // 16, size_px // 16), generator=generator)
    label = label.repeat_interleave(16, 2).repeat_interleave(16, 3)
    label[:, :, :5] = 255
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=data), metainfo=dict(img_shape=(size_px, size_px))) for data in label
    ]
    # Images that show their labels, so that a few steps are enough to learn something.
    inputs = label.float().expand(-1, 3, -1, -1) * 20 + torch.randn(2, 3, size_px, size_px, generator=generator)
    return dict(inputs=list(inputs.clamp(-80, 80)), data_samples=samples)


@pytest.mark.parametrize('loss', [CPG, [CE, CPG]], ids=['alone', 'with CE'])
@pytest.mark.parametrize(('network', 'size_px'), [(deeplabv3, 64), (ocrnet, 64), (lraspp, 400)])
def test_training_steps(network, size_px, loss):
    model = build(network(loss))
    optimizer = OptimWrapper(torch.optim.Adam(model.parameters(), lr=0.01))
    history = [model.train_step(batch(size_px), optimizer) for _ in range(4)]
    name = 'decode_1.loss_cpg' if network is ocrnet else 'decode.loss_cpg'
    assert all(torch.isfinite(log['loss']) for log in history)
    assert history[-1][name] < history[0][name]
    others = sum(value for key, value in history[0].items() if 'loss_' in key and key != name)
    assert torch.isclose(history[0]['loss'], history[0][name] + others)


def test_head_hands_over_what_the_function_gets():
    model = build(deeplabv3(CPG))
    data = model.data_preprocessor(batch(64), True)
    seg_logits = torch.randn(2, NUM_CLASSES, 8, 8, requires_grad=True)
    losses = model.decode_head.loss_by_feat(seg_logits, data['data_samples'])
    logits = torch.nn.functional.interpolate(seg_logits, size=(64, 64), mode='bilinear', align_corners=False)
    label = torch.stack([sample.gt_sem_seg.data[0] for sample in data['data_samples']])
    assert torch.equal(losses['loss_cpg'], cpg_loss(logits, label))


@pytest.mark.parametrize('thresh', [None, 0.7])
def test_ohem_weights_the_pixels(thresh):
    config = deeplabv3([CE, CPG])
    config['decode_head']['sampler'] = dict(type='OHEMPixelSampler', thresh=thresh, min_kept=500)
    model = build(config)
    data = model.data_preprocessor(batch(64), True)
    seg_logits = torch.randn(2, NUM_CLASSES, 64, 64, requires_grad=True)
    losses = model.decode_head.loss_by_feat(seg_logits, data['data_samples'])
    label = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']])
    weight = model.decode_head.sampler.sample(seg_logits, label)
    assert 0 < weight.mean() < 1
    assert torch.equal(losses['loss_cpg'], cpg_loss(seg_logits, label[:, 0], weight=weight))


def test_two_sizes_in_one_head():
    model = build(deeplabv3([CE, CPG, dict(CPG, ksize=7, loss_name='loss_cpg7')]))
    losses = model(**model.data_preprocessor(batch(64), True), mode='loss')
    assert losses['decode.loss_cpg'] != losses['decode.loss_cpg7']


def test_auxiliary_head():
    config = deeplabv3(CE)
    config['auxiliary_head']['loss_decode'] = [CE, CPG]
    losses = build(config)(**build(config).data_preprocessor(batch(64), True), mode='loss')
    assert losses['aux.loss_cpg'] > 0


def test_binary_with_one_channel():
    config = deeplabv3([dict(CE, use_sigmoid=True), CPG])
    for name in ('decode_head', 'auxiliary_head'):
        config[name].update(num_classes=2, out_channels=1, threshold=0.3)
    config['auxiliary_head']['loss_decode'] = dict(CE, use_sigmoid=True)
    model = build(config)
    losses = model(**model.data_preprocessor(batch(64, num_classes=2), True), mode='loss')
    assert losses['decode.loss_cpg'] > 0


def test_under_autocast():
    model = build(deeplabv3([CE, CPG]))
    data = model.data_preprocessor(batch(64), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**data, mode='loss')
    assert losses['decode.loss_cpg'].dtype == torch.float32
    sum(loss for name, loss in losses.items() if 'loss_' in name).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.decode_head.parameters())
