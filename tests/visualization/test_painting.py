import numpy as np
import pytest

from mmseg_cpg.visualization import boundary_band, paint_classes, paint_masks
from mmseg_cpg.visualization.painting import VOID_COLOUR


def test_paint_classes():
    colours = paint_classes(np.array([[0, 1], [2, 255]]), [(1, 2, 3), (4, 5, 6)])
    assert colours.tolist() == [[[1, 2, 3], [4, 5, 6]], [[*VOID_COLOUR], [*VOID_COLOUR]]]


def test_paint_masks_over_dark_grey():
    image = np.full((1, 3, 3), 200, np.uint8)
    first, second = np.array([[True, True, False]]), np.array([[False, True, False]])
    painted = paint_masks(image, (first, (9, 8, 7)), (second, (1, 2, 3)))
    assert painted.tolist() == [[[9, 8, 7], [1, 2, 3], [100, 100, 100]]]
    assert (image == 200).all()


@pytest.mark.parametrize('width_px', [1, 2, 3])
def test_boundary_band_is_that_of_its_definition(width_px):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (4, 5)).repeat(5, 0).repeat(4, 1) * 200
    label[rng.random(label.shape) < 0.1] = 255
    expected = np.zeros(label.shape, bool)
    for row, column in np.ndindex(label.shape):
        window = label[max(row - width_px, 0) : row + width_px + 1, max(column - width_px, 0) : column + width_px + 1]
        near = set(window.ravel().tolist()) - {255}
        expected[row, column] = label[row, column] != 255 and len(near) > 1
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(boundary_band(label, width_px), expected)
