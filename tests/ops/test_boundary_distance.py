import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from mmseg_cpg.ops import BoundaryDistance, boundary_distance, stack_distances
from tests.inputs import blobs
from tests.oracles import active_boundary_loss as oracle


@pytest.mark.parametrize('shape', [(1, 1, 1), (1, 1, 9), (2, 7, 1), (1, 2, 2), (2, 17, 23)])
@pytest.mark.parametrize('void', [0, 0.1, 1])
def test_distance_is_that_of_the_oracle(shape, void):
    label = blobs(shape, 4, void, seed=len(shape))
    expected = np.sqrt([oracle.squared_distance(each) for each in label.numpy()]).astype(np.float32)
    distance = boundary_distance(label)
    assert distance.dtype == torch.float32
    assert np.array_equal(distance.numpy(), expected)


def test_exact_at_size():
    label = blobs((1, 300, 800), 2, 0.001)[0]
    label[:, 200:] = 1
    boundary = boundary_distance(label) == 0
    assert {tuple(pixel) for pixel in boundary[:40, :40].nonzero().tolist()} == oracle.label_boundary(
        label[:41, :41].numpy()
    ) & {(y, x) for y in range(40) for x in range(40)}
    expected = distance_transform_edt(~boundary.numpy()).astype(np.float32)
    assert expected.max() > 500
    assert np.array_equal(boundary_distance(label).numpy(), expected)


def test_the_border_of_void_is_no_boundary():
    label = torch.tensor([[0, 0, 255, 1, 1, 2]])
    assert boundary_distance(label).tolist() == [[4, 3, 2, 1, 0, 1]]
    assert boundary_distance(label, ignore_index=2).tolist() == [[1, 0, 0, 1, 2, 3]]


def test_images_of_a_batch_are_apart():
    label = torch.tensor([[[0, 0], [0, 0]], [[0, 1], [0, 1]], [[255, 255], [255, 255]]])
    expected = torch.tensor([[[torch.inf] * 2] * 2, [[0, 1]] * 2, [[torch.inf] * 2] * 2])
    assert torch.equal(boundary_distance(label), expected)
    of_images = [BoundaryDistance(boundary_distance(each), 255) for each in label]
    stacked = stack_distances(of_images)
    assert torch.equal(stacked.distance, expected)
    assert stacked.made_with == ((3, 2, 2), 255)


@pytest.mark.parametrize(
    'distances',
    [
        [],
        [BoundaryDistance(torch.zeros(2, 3), 255), BoundaryDistance(torch.zeros(2, 4), 255)],
        [BoundaryDistance(torch.zeros(2, 3), 255), BoundaryDistance(torch.zeros(2, 3), 0)],
        [BoundaryDistance(torch.zeros(1, 2, 3), 255)],
    ],
)
def test_distances_made_differently_are_not_stacked(distances):
    with pytest.raises(ValueError, match=r'distances to stack must .* have the same \(shape, ignore_index\), got'):
        stack_distances(distances)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int64, '>i4'])
def test_numpy_labels(dtype):
    label = blobs((2, 9, 11), 3, 0.05)
    assert torch.equal(boundary_distance(label.numpy().astype(dtype)[:, ::-1]), boundary_distance(label.flip(1)))


def test_an_empty_batch():
    assert boundary_distance(torch.zeros(0, 3, 4, dtype=torch.int64)).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ('label', 'options', 'error', 'message'),
    [
        ([[0, 1]], {}, TypeError, 'label must be a torch.Tensor or numpy.ndarray, got list'),
        (torch.zeros(2, 2), {}, TypeError, 'label must have an integer dtype, got torch.float32'),
        (torch.zeros(4, dtype=int), {}, ValueError, r'label must have shape \(H, W\) or \(B, H, W\), got \(4,\)'),
        (torch.zeros(2, 2, dtype=int), dict(ignore_index='255'), TypeError, "ignore_index must be an int, got '255'"),
    ],
)
def test_bad_input_is_named(label, options, error, message):
    with pytest.raises(error, match=message):
        boundary_distance(label, **options)
