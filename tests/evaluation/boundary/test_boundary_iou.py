import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.evaluation.boundary.boundary_iou import count_boundary_iou
from mmseg_cpg.evaluation.boundary.label_maps import prepare_maps
from tests.evaluation.label_maps import NUM_CLASSES, VOID, pairs
from tests.oracles import boundary_metric as oracle


def count(pred, label, width_px, num_classes=2):
    counts = count_boundary_iou(prepare_maps(pred, label, num_classes, VOID), width_px)
    return counts['BIoU'].tolist(), int(counts['BIoU_band'])


@settings(max_examples=150, deadline=None)
@given(pairs(), st.integers(1, 4) | st.just(50))
def test_same_as_oracle(pair, width_px):
    expected = oracle.boundary_iou(*(each.tolist() for each in pair), NUM_CLASSES, width_px, VOID)
    assert count(*pair, width_px, NUM_CLASSES) == expected


def test_edge_shifted_by_one_pixel():
    label = np.zeros((10, 10), np.uint8)
    label[:, 5:] = 1
    pred = np.zeros_like(label)
    pred[:, 6:] = 1
    # Bands run along the edge and around the image. Class 0: columns 0 to 4 against 0 to 5. Both bands hold the first
    # and last row (2 * 5) and column 0 (8). Class 1: 2 * 4 and the last column (8).
    assert count(pred, label, 1) == ([[18, 16], [28, 24], [26, 26]], 52)
    # With d = 2 the edge's own bands overlap by one column of 6 rows each: that of the pixels next to the label's edge.
    assert count(pred, label, 2)[0][0] == [2 * 10 + 2 * 6 + 6, 2 * 8 + 2 * 6 + 6]


def test_thin_pole_that_is_missed():
    label = np.zeros((7, 7), np.uint8)
    label[:, 3] = 1
    # The background's band: both columns next to the pole (14), the rest of the first and last row (8), and of the
    # first and last column (10). The prediction's is the 24 pixels around the image, two of which are the pole's.
    assert count(np.zeros_like(label), label, 1)[0] == [[22, 0], [24, 0], [32, 7]]


def test_thin_pole_is_band_as_a_whole():
    label = np.zeros((20, 20), np.uint8)
    label[5:15, 9:11] = 1
    (_, _, (_, pole)), _ = count(label, label, 3)
    assert pole == 20


def test_void_next_to_an_edge():
    label = np.zeros((9, 9), np.uint8)
    label[:, 4:] = 1
    label[:3] = VOID
    pred = label.copy()
    pred[:3] = 1
    pred[3] = 1  # all of it next to void
    # Rows 4 to 8. Class 0: the last row (4), columns 0 and 3 above it (4 each). Class 1: 5 and 4 each. The predicted
    # band has two pixels more in row 4, below wrong ones. As if void were a class, row 3 would be band too.
    assert count(pred, label, 1) == ([[12, 13], [14, 13], [12, 13]], 25 + 9)
    # With one more row of void the wrong pixels are out of reach.
    label[3] = VOID
    assert count(pred, label, 1)[0] == [[10, 11]] * 3


def test_void_around_every_object_leaves_the_edge_of_the_image():
    label = np.zeros((20, 20), np.uint8)
    label[4:16, 4:16] = VOID
    label[6:14, 6:14] = 1
    # Around the image 20² - 16² pixels. As if void were a class also 16² - 12² around the void and 8² - 4² inside it.
    assert count(label, label, 2) == ([[144, 0]] * 3, 144 + 112 + 48)


@pytest.mark.parametrize('size', [1, 2, 5])
def test_outside_the_image_is_background(size):
    label = np.zeros((size, size), np.uint8)
    ring = size**2 - max(size - 2, 0) ** 2
    assert count(label, label, 1) == ([[ring, 0]] * 3, ring)
