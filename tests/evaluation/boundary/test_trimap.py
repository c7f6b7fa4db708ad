import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.evaluation.boundary.label_maps import prepare_maps
from mmseg_cpg.evaluation.boundary.trimap import count_trimaps
from tests.evaluation.label_maps import NUM_CLASSES, VOID, pairs
from tests.oracles import boundary_metric as oracle


def count(pred, label, widths_px, num_classes=2):
    return count_trimaps(prepare_maps(pred, label, num_classes, VOID), widths_px)['trimap'].tolist()


@settings(max_examples=150, deadline=None)
@given(pairs(), st.lists(st.integers(1, 4) | st.just(50), max_size=3))
def test_same_as_oracle(pair, widths_px):
    maps = [each.tolist() for each in pair]
    expected = [oracle.trimap(*maps, NUM_CLASSES, width_px, VOID) for width_px in widths_px]
    assert count(*pair, widths_px, NUM_CLASSES) == expected


def test_edge_shifted_by_one_pixel():
    label = np.zeros((4, 10), np.uint8)
    label[:, 5:] = 1
    pred = np.zeros_like(label)
    pred[:, 6:] = 1
    # Column 5 is wrong. The bands are columns 4 and 5, and 3 to 6.
    assert count(pred, label, [1, 2]) == [[[4, 0], [8, 0], [4, 4]], [[8, 4], [12, 4], [8, 8]]]


def test_void_makes_a_band_and_is_left_out_itself():
    label = np.zeros((5, 9), np.uint8)
    label[:, 4] = VOID
    pred = label.copy()
    pred[:, 3:5] = 1
    assert count(pred, label, [1]) == [[[5, 0], [5, 5], [10, 0]]]


def test_the_edge_of_the_image_is_no_change():
    label = np.zeros((5, 5), np.uint8)
    assert count(label, label, [1, 9]) == [[[0, 0]] * 3] * 2
