"""What the transform adds is what the loss would find in the label after collation and padding, bit for bit."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.runner import set_random_seed
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from torch.utils.data import DataLoader

from mmseg_cpg import BoundaryMaskFromLabel
from mmseg_cpg.ops import boundary_targets, stack_targets
from mmseg_cpg.structures import unpack_boundary

CROP = (48, 64)
KSIZES = [3, 7]
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
CROP_AND_FLIP = [dict(type='RandomCrop', crop_size=CROP, cat_max_ratio=0.75), dict(type='RandomFlip', prob=0.5)]
PIPELINES = {
    'cityscapes': [
        *LOAD,
        dict(type='RandomResize', scale=(80, 60), ratio_range=(0.5, 2.0), keep_ratio=True),
        *CROP_AND_FLIP,
        dict(type='PhotoMetricDistortion'),
    ],
    'ade20k': [
        LOAD[0],
        dict(type='LoadAnnotations', reduce_zero_label=True),
        dict(type='RandomResize', scale=(80, 60), ratio_range=(0.5, 2.0), keep_ratio=True),
        *CROP_AND_FLIP,
    ],
    'smaller than the crop': [*LOAD, dict(type='Resize', scale=(29, 23)), *CROP_AND_FLIP],
    'rotation and cutout': [
        *LOAD,
        dict(type='RandomRotate', prob=1.0, degree=30, seg_pad_val=255),
        dict(type='RandomCutOut', prob=1.0, n_holes=3, cutout_shape=(9, 7), seg_fill_in=255),
        *CROP_AND_FLIP,
    ],
    'resize to multiples': [*LOAD, dict(type='ResizeToMultiple', size_divisor=16), *CROP_AND_FLIP],
}


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules(init_default_scope=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Six images of 40x56 px with blocks of five classes and some void."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for kind in ('img', 'ann'):
        (root / kind).mkdir()
    for index in range(6):
        label = rng.integers(0, 5, (5, 7)).repeat(8, 0).repeat(8, 1)
        label[:3] = 255
        cv2.imwrite(str(root / 'img' / f'{index}.png'), rng.integers(0, 255, (40, 56, 3)))
        cv2.imwrite(str(root / 'ann' / f'{index}.png'), label.astype(np.uint8))
    return root


def dataset(folder, pipeline, **transform):
    settings = dict(type='BoundaryMaskFromLabel', ksize=KSIZES, pad_size=CROP, **transform)
    return DATASETS.build(base(folder, [*pipeline, dict(type='PackSegInputs'), settings]))


def base(folder, pipeline):
    return dict(
        type='BaseSegDataset',
        data_root=str(folder),
        img_suffix='.png',
        metainfo=dict(classes=tuple('abcde')),
        reduce_zero_label=any(step.get('reduce_zero_label') for step in pipeline),
        data_prefix=dict(img_path='img', seg_map_path='ann'),
        pipeline=pipeline,
    )


def sample(label):
    return SegDataSample(gt_sem_seg=PixelData(data=torch.as_tensor(label)[None]))


def preprocess(batch, size=CROP):
    preprocessor = MODELS.build(dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3, size=size))
    return preprocessor(batch, True)['data_samples']


def assert_as_on_the_fly(samples, ignore_policy='exclude', ksizes=KSIZES):
    label = torch.stack([each.gt_sem_seg.data[0] for each in samples])
    of_images = [unpack_boundary(each.gt_boundary) for each in samples]
    assert all(len(of_image) == len(ksizes) for of_image in of_images)
    for ksize in ksizes:
        actual = stack_targets([of_image[f'ksize{ksize}'] for of_image in of_images])
        expected = boundary_targets(label, ksize, ignore_policy=ignore_policy)
        assert actual.made_with == expected.made_with
        assert len(actual) > 0
        for name in ('pixel', 'class_index', 'edge_true'):
            found, wanted = getattr(actual, name), getattr(expected, name)
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


@pytest.mark.parametrize('ignore_policy', ['exclude', 'as_background'])
@pytest.mark.parametrize('name', PIPELINES)
def test_stock_augmentations(folder, name, ignore_policy):
    set_random_seed(0)
    images = dataset(folder, PIPELINES[name], ignore_policy=ignore_policy)
    for _ in range(3):
        assert_as_on_the_fly(preprocess(pseudo_collate([images[index] for index in range(6)])), ignore_policy)


def test_mosaic_of_several_images(folder):
    set_random_seed(0)
    mixed = dict(
        type='MultiImageMixDataset',
        dataset=base(folder, LOAD),
        pipeline=[
            dict(type='RandomMosaic', prob=1.0, img_scale=(40, 56), seg_pad_val=255),
            *CROP_AND_FLIP,
            dict(type='PackSegInputs'),
            dict(type='mmseg_cpg.BoundaryMaskFromLabel', ksize=KSIZES, pad_size=CROP),
        ],
    )
    images = DATASETS.build(mixed)
    assert_as_on_the_fly(preprocess(pseudo_collate([images[index] for index in range(6)])))


def test_default_collate(folder):
    images = dataset(folder, [*LOAD, dict(type='Resize', scale=(56, 40))])
    assert_as_on_the_fly(preprocess(default_collate([images[0], images[1]])))


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_workers(folder, start):
    images = dataset(folder, PIPELINES['cityscapes'])
    loader = DataLoader(
        images,
        batch_size=2,
        num_workers=2,
        collate_fn=pseudo_collate,
        multiprocessing_context=start,
        persistent_workers=True,
    )
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == 3
        for batch in batches:
            assert_as_on_the_fly(preprocess(batch))


def test_pickling_copies_everything(folder):
    packed = dataset(folder, LOAD)[0]
    restored = pickle.loads(pickle.dumps(packed))
    assert_as_on_the_fly(preprocess(pseudo_collate([restored])))
    assert 'gt_boundary' in str(restored['data_samples'])


def test_labels_larger_than_pad_size_stay_as_they_are(folder):
    images = DATASETS.build(
        base(folder, [*LOAD, dict(type='PackSegInputs'), dict(type='BoundaryMaskFromLabel', ksize=3, pad_size=(8, 60))])
    )
    assert_as_on_the_fly(preprocess(pseudo_collate([images[0], images[1]]), size=(8, 60)), ksizes=[3])


def test_without_padding():
    given = sample(np.arange(12).reshape(3, 4))
    BoundaryMaskFromLabel(ksize=5)(dict(data_samples=given))
    assert_as_on_the_fly([given], ksizes=[5])


def test_the_label_is_left_alone():
    label = np.arange(12).reshape(3, 4)
    given = sample(label.copy())
    BoundaryMaskFromLabel(pad_size=(8, 8))(dict(data_samples=given))
    assert torch.equal(given.gt_sem_seg.data[0], torch.as_tensor(label))


def test_an_image_without_boundary_is_collated_too():
    samples = [sample(np.zeros((8, 8), int)), sample(np.eye(8, dtype=int)), sample(np.full((8, 8), 255))]
    for each in samples:
        BoundaryMaskFromLabel(ksize=KSIZES)(dict(data_samples=each))
    assert_as_on_the_fly(samples)


@pytest.mark.parametrize(
    ('results', 'message'),
    [
        (dict(img=0, gt_seg_map=0), 'found no data sample: place it after PackSegInputs'),
        (dict(data_samples=SegDataSample()), 'found no label: place LoadAnnotations before PackSegInputs'),
        (
            dict(data_samples=SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(3, 8, 8, dtype=torch.int64)))),
            r'must have shape \(1, H, W\), got \(3, 8, 8\)',
        ),
    ],
)
def test_wrong_place(results, message):
    with pytest.raises(ValueError, match=message):
        BoundaryMaskFromLabel()(results)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(ksize=4), ValueError, 'got 4'),
        (dict(ksize=[3, 13]), ValueError, 'got 13'),
        (dict(ksize=[]), ValueError, r'got \[\]'),
        (dict(ksize='3'), TypeError, "got '3'"),
        (dict(ignore_policy='drop'), ValueError, "got 'drop'"),
        (dict(ignore_index=255.0), TypeError, 'got 255.0'),
        (dict(ignore_index=0), ValueError, 'seg_pad_val=255 and ignore_index=0'),
        (dict(seg_pad_val=0), ValueError, 'seg_pad_val=0 and ignore_index=255'),
        (dict(pad_size=512), ValueError, r'\(height, width\) in pixels, got 512'),
        (dict(pad_size=(512,)), ValueError, r'got \(512,\)'),
        (dict(pad_size=(512, 0)), ValueError, r'got \(512, 0\)'),
        (dict(size_divisor=0), ValueError, 'size_divisor must be >= 1, got 0'),
        (dict(pad_size=(8, 8), size_divisor=4), ValueError, r'size_divisor must be None with pad_size=\(8, 8\), got 4'),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        BoundaryMaskFromLabel(**arguments)


def test_built_by_name_and_shown():
    transform = TRANSFORMS.build(dict(type='mmseg_cpg.BoundaryMaskFromLabel', ksize=(3, 5), pad_size=(4, 6)))
    assert isinstance(transform, BoundaryMaskFromLabel)
    assert repr(transform) == (
        "BoundaryMaskFromLabel(ksize=[3, 5], ignore_index=255, ignore_policy='exclude', pad_size=(4, 6), "
        'seg_pad_val=255, size_divisor=None)'
    )
