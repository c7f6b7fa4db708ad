"""The configs of the evidence study: what their variants change, and that they train."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmseg_cpg.experiments.experiments import differences, plain
from mmseg_cpg.experiments.study import DATASETS

FOLDER = Path(__file__).resolve().parents[2] / 'configs/evidence'
NAMES = [dataset.config for dataset in DATASETS.values()]

register_all_modules(init_default_scope=True)


def read(name):
    return Config.fromfile(FOLDER / f'{name}.py', import_custom_modules=False)


def changes(name, variant):
    """What a variant changes, by key."""
    first, second = (plain(read(each).to_dict()) for each in (name, f'{name}_{variant}'))
    return dict(each.split(': ', 1) for each in differences(first, second))


@pytest.mark.parametrize('name', NAMES)
def test_variants_change_what_they_say(name):
    loss, bce = (read(each).model.decode_head.loss_decode for each in (name, f'{name}_bce'))
    # The positive part of BCE is (B, C, H, W). The segmentor's mean over the classes becomes a sum.
    weights = [[[weight]] for weight in loss.class_weight]
    assert bce == {**loss, 'use_sigmoid': True, 'class_weight': weights, 'loss_weight': len(weights)}
    iterations = read(name).max_iters
    assert f'1xb4-{iterations}i_' in name
    assert iterations % 6 == 0  # or the first and the last validation are not where the study looks for them
    twice = changes(name, '2x')
    assert twice == {
        'max_iters': f'{iterations}, {2 * iterations}',
        'param_scheduler.1.begin': f'{iterations // 3}, {2 * iterations // 3}',
        'param_scheduler.1.end': f'{iterations}, {2 * iterations}',
        'train_cfg.max_iters': f'{iterations}, {2 * iterations}',
        'train_cfg.val_begin': f'{iterations * 2 // 3}, {iterations * 4 // 3}',
        'train_cfg.val_interval': f'{iterations // 6}, {iterations // 3}',
        'default_hooks.checkpoint.interval': f'{iterations // 3}, {iterations * 2 // 3}',
    }
    ramp = read(f'{name}_ramp')
    assert ramp.model.decode_head.loss_decode[0] == read(name).model.decode_head.loss_decode
    assert ramp.custom_hooks[1].end == iterations // 3
    assert {key.partition('.')[0] for key in changes(name, 'ramp')} == {'model', 'custom_hooks'}


@pytest.mark.parametrize('name', NAMES)
def test_a_training_step(name):
    cfg = read(name)
    height, width = cfg.crop_size
    rng = np.random.default_rng(0)
    num_classes = len(cfg.metainfo.classes)
    assert cfg.model.decode_head.num_classes == num_classes
    sample = dict(
        img=rng.integers(0, 255, (360, 480, 3), np.uint8),
        gt_seg_map=rng.integers(0, num_classes, (360, 480), np.uint8),
        seg_fields=['gt_seg_map'],
        img_path='',
        ori_shape=(360, 480),
        img_shape=(360, 480),
    )
    for transform in cfg.train_pipeline[2:]:
        sample = TRANSFORMS.build(transform)(sample)
    model = MODELS.build(cfg.model).train()
    data = model.data_preprocessor(dict(inputs=[sample['inputs']] * 2, data_samples=[sample['data_samples']] * 2), True)
    assert data['inputs'].shape == (2, 3, height, width)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    gradients = [parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradients)


def test_camvid_is_padded_to_whole_strides():
    cfg = read(DATASETS['camvid'].config)
    model = MODELS.build(cfg.model).eval()
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 360, 480)))
    sample.set_metainfo(dict(img_shape=(360, 480), ori_shape=(360, 480)))
    image = torch.zeros(3, 360, 480, dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), False)
    with torch.no_grad():
        (result,) = model(**data, mode='predict')
    assert data['inputs'].shape == (1, 3, 384, 480)
    assert result.pred_sem_seg.shape == (360, 480)
