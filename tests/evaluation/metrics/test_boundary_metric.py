import copy
import math
import pickle

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample

from mmseg_cpg import BoundaryMetric
from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries

META = dict(classes=('road', 'pole'))
LABEL = torch.zeros(1, 24, 32, dtype=torch.int64)
LABEL[..., 10:14] = 1
LABEL[:, :4] = 255
PREDS = [LABEL.clamp(max=1).roll(shift, -1) for shift in (0, 1, 2)]


@pytest.fixture(scope='module', autouse=True)
def scope():
    init_default_scope('mmseg')


def sample_of(pred, label=LABEL):
    return SegDataSample(
        gt_sem_seg=PixelData(data=label), pred_sem_seg=PixelData(data=pred), metainfo=dict(img_path='images/1.png')
    )


def evaluate(preds=PREDS, **arguments):
    """Results of an evaluation as a test loop does it."""
    evaluator = Evaluator(dict(type='BoundaryMetric', **arguments))
    evaluator.dataset_meta = META
    for pred in preds:
        evaluator.process([sample_of(pred)], None)
    return evaluator.evaluate(len(preds))


def test_built_by_name_and_by_dotted_name():
    for name in ('BoundaryMetric', 'mmseg_cpg.BoundaryMetric'):
        assert isinstance(METRICS.build(dict(type=name, width_px=3)), BoundaryMetric)


@pytest.mark.parametrize('average', ['dataset', 'image'])
def test_results_are_the_scores_of_the_functions(average):
    arguments = dict(width_ratio=0.1, trimap_widths_px=[2, 4], tolerances_px=[1, 3], average=average)
    settings = BoundarySettings(**arguments)
    counts = [count_boundaries(pred[0].numpy(), LABEL[0].numpy(), 2, settings) for pred in PREDS]
    scores = boundary_scores(counts, settings)
    results = evaluate(**arguments)
    assert results == {
        'mBIoU': round(scores['mBIoU'], 2),
        'BIoU_dropped': round(scores['BIoU_dropped'], 2),
        'trimap_mIoU_2px': round(scores['trimap_mIoU'][2], 2),
        'trimap_mIoU_4px': round(scores['trimap_mIoU'][4], 2),
        'trimap_aAcc_2px': round(scores['trimap_aAcc'][2], 2),
        'trimap_aAcc_4px': round(scores['trimap_aAcc'][4], 2),
        'mF_1px': round(scores['F'][1], 2),
        'mF_3px': round(scores['F'][3], 2),
        'F_dropped_1px': round(scores['F_dropped'][1], 2),
        'F_dropped_3px': round(scores['F_dropped'][3], 2),
    }
    assert 0 < results['mBIoU'] < results['mF_3px'] == 100


def test_together_with_iou_metric():
    evaluator = Evaluator([dict(type='IoUMetric'), dict(type='BoundaryMetric', width_px=2)])
    evaluator.dataset_meta = META
    evaluator.process([sample_of(PREDS[1]), sample_of(PREDS[2])], None)
    results = evaluator.evaluate(2)
    assert {'mIoU', 'mBIoU', 'trimap_mIoU_5px', 'mF_9px'} < results.keys()
    assert results['mBIoU'] < results['mIoU']


def test_parts_can_be_left_out():
    assert evaluate(trimap_widths_px=[], tolerances_px=[]).keys() == {'mBIoU', 'BIoU_dropped'}


def test_prefix():
    results = evaluate(prefix='boundary', trimap_widths_px=[], tolerances_px=[])
    assert results.keys() == {'boundary/mBIoU', 'boundary/BIoU_dropped'}


def test_format_only_needs_no_label():
    evaluator = Evaluator(dict(type='BoundaryMetric', format_only=True))
    evaluator.dataset_meta = META
    evaluator.process([SegDataSample(pred_sem_seg=PixelData(data=PREDS[0]))], None)
    assert evaluator.evaluate(1) == {}


def test_tables_in_the_log(monkeypatch):
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', lambda _, line: lines.append(line))
    results = evaluate([PREDS[1]], trimap_widths_px=[5], tolerances_px=[3])
    del lines[:-4]  # the registry's
    titles, tables = lines[::2], [line.splitlines() for line in lines[1::2]]
    assert titles == ['per class results at boundaries:', 'per class results in trimaps:']
    cells = [[[cell.strip() for cell in row.split('|')[1:-1]] for row in table if '|' in row] for table in tables]
    assert [[row[0] for row in rows] for rows in cells] == [
        ['Class', 'road', 'pole', 'mean', 'excluded near void'],
        ['Class', 'road', 'pole', 'mean'],
    ]
    assert cells[0][0][1:] == ['BIoU', 'F 3px']
    assert cells[0][3][1:] == [f'{results[name]:.2f}' for name in ('mBIoU', 'mF_3px')]
    assert cells[0][4][1:] == [f'{results[name]:.2f}' for name in ('BIoU_dropped', 'F_dropped_3px')]
    assert cells[1][0][1:] == ['IoU 5px', 'Acc 5px']
    assert cells[1][3][1] == f'{results["trimap_mIoU_5px"]:.2f}'


def test_a_class_that_is_nowhere_is_nan_in_the_table_and_not_in_the_mean():
    evaluator = Evaluator(dict(type='BoundaryMetric'))
    evaluator.dataset_meta = dict(classes=('road', 'pole', 'sky'))
    evaluator.process([sample_of(PREDS[0])], None)
    assert evaluator.evaluate(1)['mBIoU'] == 100


def test_void_everywhere_is_nan():
    metric = METRICS.build(dict(type='BoundaryMetric'))
    metric.dataset_meta = META
    metric.process({}, [sample_of(PREDS[0], torch.full_like(LABEL, 255)).to_dict()])
    assert all(math.isnan(value) for value in metric.evaluate(1).values())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_binary_predictions_are_floating_point(dtype):
    expected = evaluate()
    assert evaluate([pred.to(dtype) for pred in PREDS]) == expected


def test_the_only_class_is_that_of_a_binary_task(monkeypatch):
    expected = evaluate()
    monkeypatch.setitem(META, 'classes', ('pole',))
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', lambda _, line: lines.append(line))
    assert evaluate([pred.float() for pred in PREDS]) == expected
    assert any('background' in line and 'pole' in line for line in lines)
    with pytest.raises(ValueError, match='the prediction contains class id 2, expected 0 to 1'):
        evaluate([PREDS[0] + 1.0])


def test_a_missing_label_is_named():
    metric = METRICS.build(dict(type='BoundaryMetric'))
    metric.dataset_meta = META
    sample = sample_of(PREDS[0]).to_dict()
    del sample['gt_sem_seg']
    with pytest.raises(ValueError, match=r"image 'images/1\.png' has no label: .* format_only=True"):
        metric.process({}, [sample])


def test_data_samples_stay_as_they_are_and_results_are_small():
    metric = METRICS.build(dict(type='BoundaryMetric'))
    metric.dataset_meta = META
    sample = sample_of(PREDS[1]).to_dict()
    before = copy.deepcopy(sample)
    metric.process({}, [sample])
    for field in ('pred_sem_seg', 'gt_sem_seg'):
        assert torch.equal(sample[field]['data'], before[field]['data'])
    assert len(pickle.dumps(metric.results)) < 2000


@pytest.mark.parametrize(
    ('pred', 'message'),
    [
        (
            PREDS[0][:, 1:],
            "image 'images/1.png': prediction and label must have the same shape .* got .23, 32. and .24, 32.",
        ),
        (PREDS[0] + 1, "image 'images/1.png': the prediction contains class id 2, expected 0 to 1"),
    ],
)
def test_bad_input_names_the_image(pred, message):
    with pytest.raises(ValueError, match=message):
        evaluate([pred])


def test_no_images():
    metric = METRICS.build(dict(type='BoundaryMetric'))
    metric.dataset_meta = META
    with pytest.raises(ValueError, match='no images'):
        metric.evaluate(0)


def test_bad_arguments():
    with pytest.raises(ValueError, match='width_px must be whole pixels'):
        METRICS.build(dict(type='BoundaryMetric', width_px=-1))


def test_pole_shifted_by_one_pixel():
    results = evaluate([PREDS[1]], width_px=1, trimap_widths_px=[1], tolerances_px=[1])
    # The pole is 20 px high below the void: a column is wrong on either side. The band is two columns on either side,
    # and all of the row next to void.
    assert results['trimap_aAcc_1px'] == round(100 * (1 - 40 / (80 + 28)), 2)
    assert results['mF_1px'] == 100
