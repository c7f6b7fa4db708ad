import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries, width_in_px
from tests.evaluation.label_maps import NUM_CLASSES, VOID, pairs
from tests.oracles import boundary_metric as oracle

ROOT = Path(__file__).resolve().parents[3]
ALL = BoundarySettings(width_px=1, trimap_widths_px=[1, 2], tolerances_px=[1, 2])
WITHOUT_MMSEG = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmseg', 'mmcv', 'mmengine'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
import doctest
from mmseg_cpg.evaluation.boundary import quality
print(doctest.testmod(quality))
"""


def halves(column, shape=(6, 8)):
    """Class 0 left of a column, class 1 from it on."""
    label = np.zeros(shape, np.uint8)
    label[:, column:] = 1
    return label


def assert_equal(counts, expected):
    assert counts.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(counts[name], value, err_msg=name)


@pytest.mark.parametrize(
    ('height', 'width', 'ratio', 'width_px'),
    # The diagonals are 2289.7, 500, 600.9 and 14.1 px.
    [(1024, 2048, 0.005, 11), (300, 400, 0.02, 10), (375, 469.5, 0.02, 12), (10, 10, 0.02, 1)],
)
def test_width_as_share_of_the_diagonal(height, width, ratio, width_px):
    assert width_in_px(height, width, ratio) == width_px


def test_settings_choose_the_width():
    label, pred = halves(150, (300, 400)), halves(151, (300, 400))
    by_ratio = count_boundaries(pred, label, 2, BoundarySettings())
    assert_equal(by_ratio, count_boundaries(pred, label, 2, BoundarySettings(width_px=10)))
    wide = count_boundaries(pred, label, 2, BoundarySettings(width_px=11, width_ratio=0.5))
    assert wide['BIoU'][2].sum() > by_ratio['BIoU'][2].sum()


@settings(max_examples=50, deadline=None)
@given(pairs(), st.integers(0, 2**32 - 1))
def test_what_is_predicted_in_void_changes_nothing(pair, seed):
    pred, label = pair
    other = np.where(label == VOID, np.random.default_rng(seed).integers(0, 256, label.shape), pred)
    expected = count_boundaries(pred, label, NUM_CLASSES, ALL)
    assert_equal(count_boundaries(other, label, NUM_CLASSES, ALL), expected)


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_a_label_is_perfect_for_itself(pair):
    _, label = pair
    scores = boundary_scores([count_boundaries(label, label, NUM_CLASSES, ALL)], ALL)
    for values in (scores['BIoU'], *scores['trimap_IoU'].values(), *scores['F_per_class'].values()):
        assert set(values[~np.isnan(values)]) <= {100}


@pytest.mark.parametrize('dtype', [np.int64, np.int32, np.uint64, np.uint16, np.float16, np.float32, np.float64])
def test_any_dtype(dtype):
    pred, label = halves(3), halves(4)
    label[0] = VOID
    expected = count_boundaries(pred, label, 2, ALL)
    assert_equal(count_boundaries(pred.astype(dtype), label.astype(dtype), 2, ALL), expected)


def test_any_memory_layout():
    pred, label = halves(3), halves(4)
    label[0] = VOID
    expected = count_boundaries(pred, label, 2, ALL)
    assert_equal(count_boundaries(np.asfortranarray(pred), np.asfortranarray(label), 2, ALL), expected)
    assert_equal(count_boundaries(pred[:, ::-1], label[:, ::-1], 2, ALL), expected)


@pytest.mark.parametrize('ignore_index', [0, -1, 9, 1000])
def test_any_ignore_index(ignore_index):
    pred, label = halves(3), halves(4)
    label[0] = VOID
    expected = count_boundaries(pred + 1, np.where(label == VOID, label, label + 1), 3, ALL)
    moved = np.where(label == VOID, ignore_index, label.astype(int) + 1)
    settings = BoundarySettings(ignore_index, width_px=1, trimap_widths_px=[1, 2], tolerances_px=[1, 2])
    assert_equal(count_boundaries(pred + 1, moved, 3, settings), expected)


@pytest.mark.parametrize('num_classes', [253, 254, 255, 256, 1000])
def test_many_classes(num_classes):
    label = np.random.default_rng(0).choice([0, num_classes - 2, num_classes - 1, -1], (8, 9))
    pred = np.random.default_rng(1).choice([0, num_classes - 2, num_classes - 1], (8, 9))
    settings = BoundarySettings(ignore_index=-1, width_px=1, trimap_widths_px=[1], tolerances_px=[2])
    counts = count_boundaries(pred, label, num_classes, settings)
    maps = pred.tolist(), label.tolist()
    np.testing.assert_array_equal(counts['BIoU'], oracle.boundary_iou(*maps, num_classes, 1, -1)[0])
    np.testing.assert_array_equal(counts['trimap'][0], oracle.trimap(*maps, num_classes, 1, -1))
    np.testing.assert_array_equal(counts['F'][0], oracle.fscore(*maps, num_classes, 2, -1)[0])


def test_inputs_stay_as_they_are():
    pred, label = halves(3), halves(4)
    label[0] = VOID
    copies = pred.copy(), label.copy()
    pred.setflags(write=False)
    count_boundaries(pred[:, ::-1], label[:, ::-1], 2, ALL)
    np.testing.assert_array_equal((pred, label), copies)


@pytest.mark.parametrize(
    ('pred', 'label', 'num_classes', 'message'),
    [
        (halves(3), halves(3, (6, 9)), 2, r'the same shape \(H, W\), got \(6, 8\) and \(6, 9\)'),
        (halves(3)[None], halves(3)[None], 2, r'the same shape \(H, W\), got \(1, 6, 8\)'),
        (halves(3)[:0], halves(3)[:0], 2, r'got \(0, 8\)'),
        (halves(3) * 2, halves(3), 2, 'the prediction contains class id 2, expected 0 to 1'),
        (halves(3), halves(3) * 7, 2, 'the label contains class id 7, expected 0 to 1 or 255 for void'),
        (halves(3).astype(int), -halves(3).astype(int), 2, 'the label contains class id -1, expected'),
        (np.full((2, 2), np.nan), np.zeros((2, 2)), 2, 'the prediction contains class id nan'),
        (np.full((2, 2), np.inf), np.zeros((2, 2)), 2, 'the prediction contains class id inf'),
        (np.full((2, 2), 0.9), np.zeros((2, 2)), 2, 'the prediction contains class id 0.9, expected 0 to 1'),
        (np.full((2, 2), 2.0), np.zeros((2, 2)), 2, 'the prediction contains class id 2, expected 0 to 1'),
        (np.zeros((2, 2)), np.full((2, 2), 0.5), 2, 'the label contains class id 0.5, expected 0 to 1 or 255 for void'),
        (np.full((2, 2), VOID), np.zeros((2, 2)), 2, 'the prediction contains class id 255'),
        (halves(3), halves(3), 0, 'num_classes must be from 1 to 65534, got 0'),
    ],
)
def test_bad_maps(pred, label, num_classes, message):
    with pytest.raises(ValueError, match=message):
        count_boundaries(pred, label, num_classes, ALL)


@pytest.mark.parametrize('dtype', [complex, object, str])
def test_maps_without_numbers(dtype):
    with pytest.raises(TypeError, match='the prediction must have an integer or floating point dtype, got '):
        count_boundaries(halves(3).astype(dtype), halves(3), 2, ALL)
    with pytest.raises(TypeError, match='the label must have an integer or floating point dtype, got '):
        count_boundaries(halves(3), halves(3).astype(dtype), 2, ALL)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(width_px=0), ValueError, 'width_px must be whole pixels, at least 1, got 0'),
        (dict(width_px=2.5), ValueError, 'width_px must be whole pixels, at least 1, got 2.5'),
        (dict(width_ratio=2), ValueError, r'width_ratio must be in \(0, 1\], got 2'),
        (dict(trimap_widths_px=[1, 0]), ValueError, 'trimap_widths_px must be whole pixels, at least 1, got 0'),
        (dict(tolerances_px=3), TypeError, 'tolerances_px must be a sequence of ints, got 3'),
        (dict(average='images'), ValueError, "average must be one of .*, got 'images'"),
        (dict(ignore_index=None), TypeError, 'ignore_index must be an int, got None'),
    ],
)
def test_bad_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        BoundarySettings(**arguments)


def test_scores_by_hand():
    counts = dict(
        # Class 2 is nowhere, class 1 only predicted.
        BIoU=np.array([[6, 0, 0], [8, 2, 0], [10, 0, 0]]),
        BIoU_band=np.array(40),
        trimap=np.array([[[3, 1, 0], [4, 2, 0], [5, 1, 0]]]),
        # Class 0: precision 3/4, recall 1/2. Class 1: a boundary and no match.
        F=np.array([[[3, 0, 0], [4, 5, 0], [2, 0, 0], [4, 0, 0]]]),
        F_edge=np.array(5),
    )
    scores = boundary_scores([counts], BoundarySettings(trimap_widths_px=[7], tolerances_px=[3]))
    assert scores['BIoU'] == pytest.approx([50, 0, np.nan], nan_ok=True)
    assert scores['mBIoU'] == pytest.approx(25)
    assert scores['BIoU_dropped'] == pytest.approx(75)
    assert scores['trimap_IoU'][7] == pytest.approx([50, 50, np.nan], nan_ok=True)
    assert scores['trimap_Acc'][7] == pytest.approx([60, 100, np.nan], nan_ok=True)
    assert scores['trimap_mIoU'] == {7: pytest.approx(50)}
    assert scores['trimap_aAcc'] == {7: pytest.approx(100 * 4 / 6)}
    assert scores['F_per_class'][3] == pytest.approx([60, 0, np.nan], nan_ok=True)
    assert scores['F'] == {3: pytest.approx(30)}
    assert scores['F_dropped'] == {3: pytest.approx(20)}


def test_averages_over_the_dataset_and_over_images():
    large, small = halves(20, (40, 40)), np.zeros((10, 10), np.uint8)
    images = [(large, large), (halves(8, (10, 10)), small)]
    counts = [count_boundaries(*image, 2, ALL) for image in images]
    both, pred, label = counts[0]['BIoU'] + counts[1]['BIoU']
    dataset = boundary_scores(counts, ALL)
    assert dataset['BIoU'] == pytest.approx(100 * both / (pred + label - both))
    each = [boundary_scores([one], ALL) for one in counts]
    by_image = boundary_scores(
        counts, BoundarySettings(1, trimap_widths_px=[1, 2], tolerances_px=[1, 2], average='image')
    )
    assert by_image['BIoU'] == pytest.approx((each[0]['BIoU'] + each[1]['BIoU']) / 2)
    assert by_image['BIoU'][1] == 50
    assert abs(by_image['mBIoU'] - dataset['mBIoU']) > 1
    # The small label has no change, so it has no trimap and no boundary: only the other image counts there.
    assert by_image['trimap_mIoU'] == {1: 100, 2: 100}
    assert by_image['trimap_aAcc'] == {1: 100, 2: 100}
    # But boundaries are predicted in it.
    assert by_image['F'] == {1: 50, 2: 50}


def test_nothing_to_count_is_nan_without_warnings(recwarn):
    label = np.full((4, 4), VOID, np.uint8)
    scores = boundary_scores([count_boundaries(label, label, 2, ALL)], ALL)
    assert np.isnan(
        [scores['mBIoU'], scores['BIoU_dropped'], *scores['F'].values(), *scores['trimap_aAcc'].values()]
    ).all()
    assert not recwarn


def test_no_images():
    with pytest.raises(ValueError, match='no images'):
        boundary_scores([], ALL)


def test_works_without_mmseg():
    output = subprocess.run([sys.executable, '-c', WITHOUT_MMSEG], cwd=ROOT, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    assert output.stdout.startswith('TestResults(failed=0, attempted=3')


@pytest.mark.parametrize('width_px', [1, 5])
def test_same_as_an_erosion_of_each_mask_on_a_large_image(width_px):
    rng = np.random.default_rng(0)
    label, pred = (
        cv2.resize(rng.integers(0, 6, (8, 12)).astype(np.uint8), (240, 160), interpolation=cv2.INTER_NEAREST)
        for _ in range(2)
    )
    counts = count_boundaries(pred, label, 6, BoundarySettings(width_px=width_px))['BIoU']
    square = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    for class_index in range(6):
        in_label, in_pred = (
            cv2.morphologyEx(
                np.pad(labels == class_index, width_px).astype(np.uint8), cv2.MORPH_ERODE, square
            )[width_px:-width_px, width_px:-width_px]
            < (labels == class_index)
            for labels in (label, pred)
        )  # fmt: skip
        assert counts[:, class_index].tolist() == [(in_label & in_pred).sum(), in_pred.sum(), in_label.sum()]
