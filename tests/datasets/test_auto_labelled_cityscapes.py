"""The fine set and the auto-labeled set as one dataset, and the config that switches it on."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from mmseg_cpg import AutoLabelledCityscapesDataset

from .conftest import NUM_AUTO, NUM_FINE

CONFIGS = Path(__file__).parents[2] / 'configs'
# https://github.com/mcordts/cityscapesScripts, helpers/labels.py
TRAIN_IDS = {
    **dict(zip((7, 8, 11, 12, 13, 17), range(6), strict=True)),
    **dict(zip(range(19, 29), range(6, 16), strict=True)),
    **dict(zip(range(31, 34), range(16, 19), strict=True)),
}


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def dataset(dataset_cfg):
    return DATASETS.build(dataset_cfg)


def test_the_fine_images_come_first(dataset):
    assert isinstance(dataset, AutoLabelledCityscapesDataset)
    assert [len(part) for part in dataset.datasets] == [NUM_FINE, NUM_AUTO]
    folders = [Path(dataset.get_data_info(index)['seg_map_path']).parts[-4] for index in range(len(dataset))]
    assert folders == ['gtFine'] * NUM_FINE + ['refinement_final'] * NUM_AUTO


@pytest.mark.parametrize('index', [0, NUM_FINE - 1, NUM_FINE, NUM_FINE + NUM_AUTO - 1])
def test_labels_are_loaded_as_train_ids(dataset, index):
    stored = cv2.imread(dataset.get_data_info(index)['seg_map_path'], cv2.IMREAD_UNCHANGED)
    is_auto = index >= NUM_FINE
    expected = np.vectorize(lambda value: TRAIN_IDS.get(value, 255))(stored) if is_auto else stored
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(dataset[index]['data_samples'].gt_sem_seg.data[0], expected)


def test_fewer_classes_reach_both_sets(dataset_cfg):
    dataset = DATASETS.build({**dataset_cfg, 'metainfo': dict(classes=('car', 'road'))})
    found = set()
    for index in range(len(dataset)):
        stored = cv2.imread(dataset.get_data_info(index)['seg_map_path'], cv2.IMREAD_UNCHANGED)
        car, road = (13, 0) if index < NUM_FINE else (26, 7)
        expected = np.select([stored == car, stored == road], [0, 1], 255)
        np.testing.assert_array_equal(dataset[index]['data_samples'].gt_sem_seg.data[0], expected)
        found |= {(index < NUM_FINE, value) for value in np.unique(expected).tolist()}
    assert found == {(is_fine, value) for is_fine in (True, False) for value in (0, 1, 255)}


def test_a_folder_that_is_not_named_is_an_error(dataset_cfg):
    prefix = {key: value for key, value in dataset_cfg['data_prefix'].items() if key != 'auto_img_path'}
    with pytest.raises(ValueError, match='auto_img_path and auto_seg_map_path in data_prefix, got'):
        DATASETS.build({**dataset_cfg, 'data_prefix': prefix})


def test_two_lines_switch_it_on(cityscapes, tmp_path):
    text = (CONFIGS / '_base_/datasets/cityscapes_auto-labelled.py').read_text()
    lines = [line[1:].strip() for line in text.splitlines() if line.startswith('#     ')]
    assert len(lines) == 2
    third = next(line for line in text.splitlines() if 'third line' in line).split('third line: ')[1]
    config = tmp_path / 'mine.py'
    for switch_epoch, extra in ((150, ''), (175, third)):
        folder = CONFIGS / 'cpg'
        config.write_text('\n'.join([*lines, extra]).replace("'./", f"'{folder}/").replace("'../", f"'{folder}/../"))
        cfg = Config.fromfile(config)
        plain = Config.fromfile(folder / 'deeplabv3_r50_cityscapes_cpg3.py')
        loader, plain_loader = cfg.pop('train_dataloader'), plain.pop('train_dataloader')
        assert cfg.to_dict() == plain.to_dict()
        assert 'Auto' not in str(plain_loader)
        assert loader.sampler.switch_epoch == switch_epoch
        assert loader.dataset.pipeline == plain_loader.dataset.pipeline
        assert (loader.batch_size, loader.drop_last) == (plain_loader.batch_size, True)
        dataset = DATASETS.build({**loader.dataset, 'data_root': str(cityscapes)})
        assert len(dataset) == NUM_FINE + NUM_AUTO
