"""All configs but the demo's, built as they are and trained on tiny trees in the real layouts."""

import math
import re
from uuid import uuid4

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mmseg_cpg.cli.require_data import datasets_of
from mmseg_cpg.config_nodes import losses as losses_in
from mmseg_cpg.models.edge_network import EdgeNetwork, save_edge_network
from tests.configs.reading import ALL, CPG, load

# Images and labels under data/, {} being a number, and the labels' values.
TREES = [
    (
        'cityscapes/leftImg8bit/train/aachen/aachen_{:06}_000019_leftImg8bit.png',
        'cityscapes/gtFine/train/aachen/aachen_{:06}_000019_gtFine_labelTrainIds.png',
        [*range(19), 255],
    ),
    (
        'cityscapes/leftImg8bit/val/munster/munster_{:06}_000019_leftImg8bit.png',
        'cityscapes/gtFine/val/munster/munster_{:06}_000019_gtFine_labelTrainIds.png',
        [*range(19), 255],
    ),
    (
        'ade/ADEChallengeData2016/images/training/ADE_train_{:08}.jpg',
        'ade/ADEChallengeData2016/annotations/training/ADE_train_{:08}.png',
        range(151),
    ),
    (
        'ade/ADEChallengeData2016/images/validation/ADE_val_{:08}.jpg',
        'ade/ADEChallengeData2016/annotations/validation/ADE_val_{:08}.png',
        range(151),
    ),
    (
        'coco_stuff10k/images/train2014/COCO_train2014_{:012}.jpg',
        'coco_stuff10k/annotations/train2014/COCO_train2014_{:012}_labelTrainIds.png',
        range(172),
    ),
    (
        'coco_stuff10k/images/test2014/COCO_train2014_{:012}.jpg',
        'coco_stuff10k/annotations/test2014/COCO_train2014_{:012}_labelTrainIds.png',
        range(172),
    ),
]
# Of Pascal VOC, whose splits are lists of names.
VOC = 'VOCdevkit/VOC2012'
SPLITS = {'train': 'SegmentationClass', 'aug': 'SegmentationClassAug', 'val': 'SegmentationClass'}
TREES += [
    (f'{VOC}/JPEGImages/{split}_{{:06}}.jpg', f'{VOC}/{labels}/{split}_{{:06}}.png', [*range(21), 255])
    for split, labels in SPLITS.items()
]
IMAGES = 4  # of each tree
# Additional losses by the part of a config's name, with their names in the log.
NAMED_LOSSES = {'abl': 'abl', 'cpg': 'cpg', 'lad': 'locally_adaptive', 'rmi': 'rmi', 'semeda': 'semeda'}
CROP_PX = 64


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder with data/, in which every dataset lies where the configs look for it."""
    folder = tmp_path_factory.mktemp('datasets')
    rng = np.random.default_rng(0)
    for image_name, label_name, values in TREES:
        for number in range(IMAGES):
            image_path, label_path = (folder / 'data' / name.format(number) for name in (image_name, label_name))
            for path in (image_path, label_path):
                path.parent.mkdir(parents=True, exist_ok=True)
            label = rng.choice(values, (5, 10)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
            cv2.imwrite(str(image_path), np.stack([label, label.T.reshape(label.shape), 255 - label], -1))
            cv2.imwrite(str(label_path), label)
    lists = folder / 'data' / VOC / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    for split in SPLITS:
        (lists / f'{split}.txt').write_text(''.join(f'{split}_{number:06}\n' for number in range(IMAGES)))
    return folder


def narrow(model):
    """Make a model's config a few channels wide and free of pretrained weights."""
    model.pretrained = None
    if model.backbone.type == 'ResNetV1c':
        model.backbone.stem_channels = model.backbone.base_channels = 8
        model.decode_head.merge(dict(in_channels=256, channels=16))
        model.auxiliary_head.merge(dict(in_channels=128, channels=16))
    elif model.backbone.type == 'HRNet':
        widths = [4, 8, 16, 32]
        for stage in (2, 3, 4):
            model.backbone.extra[f'stage{stage}'].num_channels = widths[:stage]
        fcn, ocr = model.decode_head
        fcn.merge(dict(in_channels=widths, channels=16))
        ocr.merge(dict(in_channels=widths, channels=16, ocr_channels=8))


def shrink(cfg, work_dir):
    """Make a config train for two iterations and validate once, in seconds on a CPU."""
    narrow(cfg.model)
    cfg.model.data_preprocessor.size = (CROP_PX, CROP_PX)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.merge(dict(num_workers=0, persistent_workers=False))
        for step in (step for dataset in datasets_of(loader.dataset) for step in dataset.pipeline):
            if 'scale' in step:
                step.scale = (2 * CROP_PX, CROP_PX)
            if 'crop_size' in step:
                step.crop_size = (CROP_PX, CROP_PX)
            if 'pad_size' in step:
                step.pad_size = (CROP_PX, CROP_PX)
    cfg.train_dataloader.batch_size = IMAGES // 2
    by_epoch = cfg.train_cfg.type == 'EpochBasedTrainLoop'
    cfg.train_cfg.merge(dict(max_epochs=1) if by_epoch else dict(max_iters=2))
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = cfg.visualizer.name = uuid4().hex  # MMEngine keeps what it has built under a name
    # The Runner writes the config several times, and formatting it takes longer than all else here.
    return Config(cfg.to_dict(), format_python_code=False)


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_dumped_config_reloads_unchanged(path):
    cfg = load(path)
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_trains(path, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    cfg = shrink(load(path), tmp_path)
    for loss, _ in losses_in(cfg.model, 'SEMEDALoss'):
        loss.checkpoint = str(tmp_path / 'edge_network.pth')
        save_edge_network(EdgeNetwork(cfg.model.decode_head.num_classes), loss.checkpoint)
    runner = Runner.from_cfg(cfg)
    if 'lraspp' in path.stem:
        # Its window is as large as the features of a crop of 385 px, whatever the crop.
        runner.model.decode_head.image_pool[0].kernel_size = CROP_PX // 8
    runner.train()

    (log,) = tmp_path.glob('*/*.log')
    assert log.read_text().count('The learning rate is for a total batch size of') == (path in CPG)
    assert len(runner.train_dataloader.dataset) == IMAGES * len([*datasets_of(cfg.train_dataloader.dataset)])
    scalars = {name: history.data[0] for name, history in runner.message_hub.log_scalars.items()}
    losses = {name: values for name, values in scalars.items() if 'loss' in name}
    assert all(len(values) == 2 and np.isfinite(values).all() for values in losses.values())
    total = sum(values for name, values in losses.items() if name != 'train/loss')
    np.testing.assert_allclose(losses['train/loss'], total, rtol=1e-5)
    final = 'decode_1' if 'ocrnet' in path.stem else 'decode'
    expected = [f'train/{final}.loss_{loss}' for name, loss in NAMED_LOSSES.items() if f'_{name}' in path.stem]
    assert [name for name in losses if re.search('|'.join(NAMED_LOSSES.values()), name)] == expected
    assert all((losses[name] > 0).all() for name in expected)
    assert math.isfinite(scalars['val/mIoU'][-1])
    trained = runner.optim_wrapper.optimizer.state
    for name, parameter in runner.model.named_parameters():
        assert parameter.isfinite().all(), name
        assert parameter in trained, f'{name} got no gradient'


# The other configs have the same models, other losses aside.
@pytest.mark.parametrize(
    'path', [path for path in ALL if re.search('_baseline|_cpg3_|gradnet', path.stem)], ids=lambda p: p.stem
)
def test_model_takes_crops_as_they_are(path):
    cfg = load(path)
    init_default_scope('mmseg')
    with torch.device('meta'):  # shapes alone, nothing is computed
        model = MODELS.build(cfg.model)
        scores = model(torch.empty(2, 3, *cfg.crop_size))
    assert scores.shape[:2] == (2, model.num_classes)
