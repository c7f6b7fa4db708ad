"""A synthetic tree in the layout of Cityscapes with its coarse images and their automatic labels."""

import cv2
import numpy as np
import pytest

from mmseg_cpg.datasets.auto_labelled_cityscapes import LABEL_IDS

NUM_FINE, NUM_AUTO = 21, 240


def write_pair(root, image_folder, label_folder, name, label_suffix, label):
    for folder in (image_folder, label_folder):
        (root / folder / 'city').mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / image_folder / 'city' / f'{name}_leftImg8bit.png'), np.zeros((*label.shape, 3), np.uint8))
    cv2.imwrite(str(root / label_folder / 'city' / f'{name}_{label_suffix}.png'), label)


@pytest.fixture(scope='session')
def cityscapes(tmp_path_factory):
    """The folder. All 19 classes are in both sets, with shares of their own, 10 % of the pixels are void."""
    root = tmp_path_factory.mktemp('cityscapes')
    rng = np.random.default_rng(0)
    fine_shares, auto_shares = rng.dirichlet(np.full(19, 3), 2)
    for index in range(NUM_FINE + NUM_AUTO):
        is_fine = index < NUM_FINE
        shares = rng.dirichlet(19 * (fine_shares if is_fine else (2 * fine_shares + auto_shares) / 3))
        label = rng.choice(19, (16, 32), p=shares).astype(np.uint8)
        void = rng.random(label.shape) < 0.1
        if is_fine:
            label[void] = 255
            write_pair(root, 'leftImg8bit/train', 'gtFine/train', f'city_{index:03d}', 'gtFine_labelTrainIds', label)
        else:
            label = np.array(LABEL_IDS, np.uint8)[label]
            label[void] = 0  # unlabeled
            folders = ('leftImg8bit/train_extra', 'refinement_final/train_extra')
            write_pair(root, *folders, f'city_{index:03d}', 'leftImg8bit', label)
    return root


@pytest.fixture(scope='session')
def dataset_cfg(cityscapes):
    return dict(
        type='AutoLabelledCityscapesDataset',
        data_root=str(cityscapes),
        data_prefix=dict(
            img_path='leftImg8bit/train',
            seg_map_path='gtFine/train',
            auto_img_path='leftImg8bit/train_extra',
            auto_seg_map_path='refinement_final/train_extra',
        ),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
    )
