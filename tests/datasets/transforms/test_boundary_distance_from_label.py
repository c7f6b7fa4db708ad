"""What the transform adds is what the loss would compute of the label after collation and padding, bit for bit."""

import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmseg_cpg import BoundaryDistanceFromLabel, BoundaryMaskFromLabel
from mmseg_cpg.ops import boundary_distance, boundary_targets, stack_distances
from mmseg_cpg.structures import unpack_boundary
from tests.datasets.transforms.test_boundary_mask_from_label import CROP, preprocess, sample
from tests.inputs import blobs

PACKED = dict(type='mmseg_cpg.BoundaryDistanceFromLabel', pad_size=CROP)


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules(init_default_scope=True)


def loaded(*transforms, shapes=(CROP, (40, 64), (7, 9))):
    """Samples of those shapes as the data preprocessor hands them to the model."""
    packed = []
    for seed, shape in enumerate(shapes):
        data = dict(inputs=torch.zeros(3, *shape), data_samples=sample(blobs((1, *shape), 4, 0.01, seed)[0]))
        for transform in transforms:
            data = transform(data)
        packed.append(pickle.loads(pickle.dumps(data)))  # as a worker does
    return preprocess(pseudo_collate(packed))


def assert_as_on_the_fly(samples):
    label = torch.stack([each.gt_sem_seg.data[0] for each in samples])
    made = stack_distances([unpack_boundary(each.gt_boundary)['distance'] for each in samples])
    assert made.made_with == (tuple(label.shape), 255)
    assert made.distance.dtype == torch.float32
    assert torch.equal(made.distance, boundary_distance(label))
    assert made.distance.isfinite().all()


def test_labels_as_they_will_be_padded():
    assert_as_on_the_fly(loaded(TRANSFORMS.build(PACKED)))


@pytest.mark.parametrize('first', [0, 1])
def test_together_with_the_other_transform(first):
    transforms = [BoundaryDistanceFromLabel(pad_size=CROP), BoundaryMaskFromLabel(ksize=[3, 5], pad_size=CROP)]
    samples = loaded(transforms[first], transforms[1 - first])
    assert_as_on_the_fly(samples)
    for each in samples:
        made = unpack_boundary(each.gt_boundary)
        assert set(made) == {'ksize3', 'ksize5', 'distance'}
        assert torch.equal(made['ksize5'].pixel, boundary_targets(each.gt_sem_seg.data[0], 5).pixel)


def test_an_image_without_boundary():
    (given,) = loaded(BoundaryDistanceFromLabel(), shapes=[(1, 1)])
    assert unpack_boundary(given.gt_boundary)['distance'].distance.isinf().all()


def test_other_void_and_the_label_is_left_alone():
    label = np.array([[0, 0, 9, 1, 2]])
    given = sample(label.copy())
    BoundaryDistanceFromLabel(ignore_index=9, pad_size=(1, 7), seg_pad_val=9)(dict(data_samples=given))
    assert torch.equal(given.gt_sem_seg.data[0], torch.from_numpy(label))
    assert unpack_boundary(given.gt_boundary)['distance'].distance.tolist() == [[3, 2, 1, 0, 1, 2, 3]]


def test_what_it_refuses_is_what_the_other_transform_does():
    with pytest.raises(ValueError, match='BoundaryDistanceFromLabel found no label: place LoadAnnotations before'):
        BoundaryDistanceFromLabel()(dict(data_samples=SegDataSample()))
    with pytest.raises(ValueError, match='seg_pad_val=0 and ignore_index=255'):
        BoundaryDistanceFromLabel(seg_pad_val=0)
    with pytest.raises(ValueError, match=r'\(height, width\) in pixels, got 512'):
        BoundaryDistanceFromLabel(pad_size=512)


def test_shown():
    assert repr(TRANSFORMS.build(PACKED)) == (
        'BoundaryDistanceFromLabel(ignore_index=255, pad_size=(48, 64), seg_pad_val=255, size_divisor=None)'
    )
