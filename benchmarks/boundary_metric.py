"""The cost of BoundaryMetric per image, relative to IoUMetric and to the same measures computed class by class.

    python -m benchmarks.boundary_metric

One core, 1024 x 2048, a synthetic street-scene label and three predictions: the label with its boundaries displaced by
up to 3 px, another label, and noise. The metrics get the same input as in a test loop. Counts are first compared with
those of boundary_by_class.py; this reference is timed once for each case. All others run in turn: wall times in ms,
median and 20 and 80 % percentiles.
"""

from functools import partial

import numpy as np
import torch
from mmseg.evaluation.metrics import IoUMetric

from mmseg_cpg import BoundaryMetric
from mmseg_cpg.evaluation.boundary import width_in_px

from . import boundary_by_class
from .common import run_on_one_core, summary, timed
from .synthetic import HEIGHT, WIDTH, street_labels

NUM_CLASSES = (19, 150)
# Upper limit of the time of Boundary IoU, relative to IoUMetric.
BAR = 3
NOTHING = dict(trimap_widths_px=(), tolerances_px=())
METRICS = {
    'iou_metric': IoUMetric(),
    'biou_0.005': BoundaryMetric(width_ratio=0.005, **NOTHING),
    'biou_0.02': BoundaryMetric(width_ratio=0.02, **NOTHING),
    'biou_0.005_trimaps': BoundaryMetric(width_ratio=0.005, tolerances_px=()),
    'biou_0.005_fscore': BoundaryMetric(width_ratio=0.005, trimap_widths_px=()),
    'biou_0.005_trimaps_fscore': BoundaryMetric(width_ratio=0.005),
}


def make_samples(num_classes):
    """Data samples as in a test loop, by name of the prediction."""
    label, other = (street_labels(1, num_classes, HEIGHT, WIDTH, seed=seed)[0] for seed in (0, 1))
    noise = torch.randint(num_classes, label.shape, generator=torch.Generator().manual_seed(0))
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij')
    rows = (y + 3 * torch.sin(x / 31)).round().long().clamp(0, HEIGHT - 1)
    columns = (x + 3 * torch.sin(y / 23)).round().long().clamp(0, WIDTH - 1)
    preds = {'boundaries displaced': label[rows, columns], 'another label': other, 'noise': noise}
    return {
        name: dict(
            pred_sem_seg=dict(data=torch.where(pred == boundary_by_class.VOID, noise, pred)[None]),
            gt_sem_seg=dict(data=label[None]),
        )
        for name, pred in preds.items()
    }


def count(metric, sample):
    metric.process({}, [sample])
    return metric.results.pop()


def check(sample, num_classes):
    """Compare the counts of BoundaryMetric with the reference, and return the reference's times in ms."""
    metric = METRICS['biou_0.005_trimaps_fscore']
    maps = [sample[field]['data'][0].numpy().astype(np.uint8) for field in ('pred_sem_seg', 'gt_sem_seg')]
    cases = {
        'BIoU': (boundary_by_class.boundary_iou, width_in_px(HEIGHT, WIDTH, metric.settings.width_ratio)),
        'trimap': (boundary_by_class.trimaps, metric.settings.trimap_widths_px),
        'F': (boundary_by_class.fscore, metric.settings.tolerances_px),
    }
    counts = count(metric, sample)
    times = {}
    for name, (function, sizes_px) in cases.items():
        expected, time_ms = timed(partial(function, *maps, num_classes, sizes_px))
        times[name] = round(time_ms)
        if not np.array_equal(counts[name], expected):
            raise SystemExit(f'{name}: BoundaryMetric differs from {function.__name__} of boundary_by_class.py')
    return times


def measure(repeats):
    rows = []
    for num_classes in NUM_CLASSES:
        for metric in METRICS.values():
            metric.dataset_meta = dict(classes=range(num_classes))
        for name, sample in make_samples(num_classes).items():
            by_class = check(sample, num_classes)
            times = {key: [] for key in METRICS}
            for _ in range(repeats):
                for key, metric in METRICS.items():
                    _, time_ms = timed(partial(count, metric, sample))
                    times[key].append(time_ms)
            row = {key: summary(each) for key, each in times.items()}
            for each in row.values():
                each['over_iou_metric'] = round(each['ms'] / row['iou_metric']['ms'], 2)
            rows.append({'classes': num_classes, 'prediction': name, **row, 'by_class_ms': by_class})
    return {'bar_over_iou_metric': BAR, 'per_image': rows}


def markdown(result):
    """The table of the README."""
    lines = [
        '| classes | prediction | IoUMetric, ms | Boundary IoU, width 0.005 (÷ IoUMetric) | width 0.02 '
        '| 0.005 and trimaps | 0.005 and F-score | all three | Boundary IoU class by class | F-score class by class |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for row in result['per_image']:
        _, *others = METRICS
        times = ' | '.join(f'{row[name]["ms"]:.0f} ({row[name]["over_iou_metric"]:.1f})' for name in others)
        lines.append(
            f'| {row["classes"]} | {row["prediction"]} | {row["iou_metric"]["ms"]:.0f} | {times} '
            f'| {row["by_class_ms"]["BIoU"]} | {row["by_class_ms"]["F"]} |'
        )
    return '\n'.join(lines)


def main():
    result = run_on_one_core('boundary_metric', __doc__, measure, markdown, repeats=15)
    for row in result['per_image']:
        for key in ('biou_0.005', 'biou_0.02'):
            if row[key]['over_iou_metric'] > BAR:
                print(f'{key} exceeds {BAR} times IoUMetric: {row["classes"]} classes, {row["prediction"]}')


if __name__ == '__main__':
    main()
