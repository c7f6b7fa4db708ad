"""The config of an edge network made from a segmentor's."""

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmseg_cpg.cli.edge_training import edge_network_config
from mmseg_cpg.cli.errors import UserError
from tests.configs.reading import CONFIGS, load

STOCK = {
    'cityscapes': CONFIGS / 'cpg_stock/ocrnet_hr48_cpg3_4xb2-160k_cityscapes-512x1024.py',
    'ade20k': CONFIGS / 'cpg/deeplabv3_r50_ade20k_cpg3.py',
}


def names(pipeline):
    return [transform['type'] for transform in pipeline]


def test_only_what_concerns_the_labels_is_taken():
    cfg = load(STOCK['cityscapes'])
    edge_cfg = edge_network_config(cfg)
    assert cfg.to_dict() == load(STOCK['cityscapes']).to_dict()
    assert (edge_cfg.model.type, edge_cfg.model.num_classes) == ('mmseg_cpg.EdgeNetwork', 19)
    assert edge_cfg.model.data_preprocessor == dict(type='SegDataPreProcessor', size=(512, 1024), seg_pad_val=255)
    assert edge_cfg.train_dataloader.batch_size == cfg.train_dataloader.batch_size
    assert names(edge_cfg.train_dataloader.dataset.pipeline) == [
        'LoadAnnotations',
        'mmseg_cpg.BlankImageFromLabel',
        *names(cfg.train_dataloader.dataset.pipeline)[2:],
    ]
    # The label of a validation image keeps its size: it is loaded after the image is resized.
    blank = ['LoadAnnotations', 'mmseg_cpg.BlankImageFromLabel', 'PackSegInputs']
    assert names(edge_cfg.val_dataloader.dataset.pipeline) == blank
    assert edge_cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert 'test_dataloader' not in edge_cfg


def test_ignore_index_and_padding_are_the_heads():
    cfg = load(STOCK['cityscapes'])
    cfg.model.decode_head[-1].ignore_index = 19
    cfg.model.data_preprocessor.seg_pad_val = 19
    edge_cfg = edge_network_config(cfg)
    assert edge_cfg.model.ignore_index == edge_cfg.val_evaluator.ignore_index == 19
    assert edge_cfg.model.data_preprocessor.seg_pad_val == 19


@pytest.mark.parametrize('num_classes', [1, 2])
def test_binary(num_classes):
    cfg = load(STOCK['ade20k'])
    cfg.model.decode_head.merge(dict(num_classes=num_classes, out_channels=1))
    assert edge_network_config(cfg).model.num_classes == 2


def test_wrapped_datasets_and_no_validation():
    cfg = load(STOCK['cityscapes'])
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=dataset)
    cfg.val_dataloader = None
    edge_cfg = edge_network_config(cfg)
    assert names(edge_cfg.train_dataloader.dataset.dataset.pipeline)[0] == 'LoadAnnotations'
    assert not {'val_dataloader', 'val_cfg', 'val_evaluator'} & edge_cfg.keys()


def test_no_image_is_read(tmp_path):
    init_default_scope('mmseg')
    cfg = load(STOCK['ade20k'])
    dataset = edge_network_config(cfg).train_dataloader.dataset
    dataset.data_root = str(tmp_path)
    for folder, suffix in ((dataset.data_prefix.img_path, '.jpg'), (dataset.data_prefix.seg_map_path, '.png')):
        (tmp_path / folder).mkdir(parents=True)
        path = tmp_path / folder / f'a{suffix}'
        path.touch()
    label = np.arange(151, dtype=np.uint8).repeat(4)[None].repeat(300, 0)
    cv2.imwrite(str(path), label)
    sample = DATASETS.build(dataset)[0]['data_samples']
    assert max(sample.gt_sem_seg.data.shape) <= 520
    assert {*sample.gt_sem_seg.data.unique().tolist()} <= {*range(150), 255}  # reduce_zero_label took place


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(train_dataloader=None), 'does not set train_dataloader'),
        (dict(model=dict(decode_head=dict(_delete_=True, type='FCNHead'))), 'model.decode_head.num_classes'),
        (dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))), 'no LoadAnnotations'),
    ],
)
def test_what_is_missing_is_named(change, message):
    cfg = load(STOCK['ade20k'])
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match=message):
        edge_network_config(cfg)
