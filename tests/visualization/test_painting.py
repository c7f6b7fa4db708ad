import numpy as np

from mmseg_cpg.visualization import paint_classes, paint_masks
from mmseg_cpg.visualization.painting import VOID_COLOR


def test_paint_classes():
    colors = paint_classes(np.array([[0, 1], [2, 255]]), [(1, 2, 3), (4, 5, 6)])
    assert colors.tolist() == [[[1, 2, 3], [4, 5, 6]], [[*VOID_COLOR], [*VOID_COLOR]]]


def test_paint_masks_over_dark_gray():
    image = np.full((1, 3, 3), 200, np.uint8)
    first, second = np.array([[True, True, False]]), np.array([[False, True, False]])
    painted = paint_masks(image, (first, (9, 8, 7)), (second, (1, 2, 3)))
    assert painted.tolist() == [[[9, 8, 7], [1, 2, 3], [100, 100, 100]]]
    assert (image == 200).all()
