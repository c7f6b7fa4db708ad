import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.evaluation.boundary.boundary_fscore import count_boundary_fscore
from mmseg_cpg.evaluation.boundary.label_maps import prepare_maps
from tests.evaluation.label_maps import NUM_CLASSES, VOID, pairs
from tests.oracles import boundary_metric as oracle


def count(pred, label, tolerances_px, num_classes=2):
    counts = count_boundary_fscore(prepare_maps(pred, label, num_classes, VOID), tolerances_px)
    return counts['F'].tolist(), int(counts['F_edge'])


@settings(max_examples=150, deadline=None)
@given(pairs(), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_same_as_oracle(pair, tolerances_px):
    maps = [each.tolist() for each in pair]
    expected = [oracle.fscore(*maps, NUM_CLASSES, tolerance_px, VOID) for tolerance_px in tolerances_px]
    counts, edge = count(*pair, tolerances_px, NUM_CLASSES)
    assert counts == [each for each, _ in expected]
    assert {edge} == {each for _, each in expected}


def test_edge_shifted_by_two_pixels():
    label = np.zeros((4, 10), np.uint8)
    label[:, 5:] = 1
    pred = np.zeros_like(label)
    pred[:, 7:] = 1
    # The label's boundaries are columns 4 and 5, the predicted ones 6 and 7.
    none, all_of_it = [0, 0], [4, 4]
    assert count(pred, label, [1, 2]) == ([[none, all_of_it] * 2, [all_of_it] * 4], 8)


def test_the_disk_is_round():
    label = np.zeros((9, 9), np.uint8)
    label[2, 2] = 1
    pred = np.zeros_like(label)
    pred[5, 5] = 1  # sqrt(18) = 4.2 px away
    counts, _ = count(pred, label, [3, 4, 5])
    assert [[row[1] for row in each] for each in counts] == [[0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]]


def test_a_boundary_of_another_class_is_no_match():
    label = np.zeros((6, 6), np.uint8)
    label[:, 3:] = 1
    pred = np.where(label == 1, np.uint8(2), label)
    counts, _ = count(pred, label, [5], num_classes=3)
    assert counts == [[[6, 0, 0], [6, 0, 6], [6, 0, 0], [6, 6, 0]]]


def test_void_and_the_edge_of_the_image_make_no_boundary():
    label = np.zeros((6, 6), np.uint8)
    label[2:4] = VOID
    assert count(np.zeros_like(label), label, [1]) == ([[[0, 0]] * 4], 12)


def test_void_next_to_an_edge():
    label = np.zeros((9, 9), np.uint8)
    label[:, 4:] = 1
    label[:3] = VOID
    pred = label.copy()
    pred[:3] = 0
    # Of the 6 rows below the void, those within the tolerance do not count. As if void were a class, the label's
    # boundary would have the 7 other pixels of the first of these rows as well.
    counts, edge = count(pred, label, [1, 3])
    assert counts == [[[5, 5]] * 4, [[3, 3]] * 4]
    assert edge == 12 + 7


def test_a_boundary_near_void_can_still_be_matched():
    label = np.zeros((9, 9), np.uint8)
    label[:, 4:] = 1
    label[:3] = VOID
    pred = label.copy()
    pred[3:5, 4] = 0  # moves the edge by one pixel in the two rows below the void
    counts, _ = count(pred, label, [2])
    # Rows 5 to 8 count: straight below, the boundaries are the same.
    assert counts == [[[4, 4]] * 4]


def test_no_tolerances_cost_nothing():
    label = np.eye(4, dtype=np.uint8)
    assert count(label, label, []) == ([], 0)
