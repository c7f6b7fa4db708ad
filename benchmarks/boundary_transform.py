"""The cost of the boundary transforms in a data loader's worker, relative to the stock Cityscapes training pipeline.

    python -m benchmarks.boundary_transform

One core, as in a worker. The pipeline is MMSegmentation's own for Cityscapes, on a synthetic 1024 x 2048 PNG and its
label; the transforms run on the whole label and on the 512 x 1024 crop of the pipeline. All run in turn; correctness is
checked first. Times are wall times in ms: median and 20 and 80 % percentiles. Bytes are those of the pickled field of a
data sample, as sent to the main process.
"""

import pickle
import tempfile
from functools import partial
from pathlib import Path

import cv2
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.runner import set_random_seed
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmseg_cpg import BoundaryDistanceFromLabel, BoundaryMaskFromLabel
from mmseg_cpg.ops import BoundaryDistance, boundary_distance, boundary_targets
from mmseg_cpg.structures import unpack_boundary

from .common import run_on_one_core, summary, timed
from .scene import write_scene

# Each with the function of the loss that computes the same.
TRANSFORMS = {
    **{
        f'BoundaryMaskFromLabel, ksize {ksize}': (BoundaryMaskFromLabel(ksize), partial(boundary_targets, ksize=ksize))
        for ksize in (3, 5, 7)
    },
    'BoundaryDistanceFromLabel': (
        BoundaryDistanceFromLabel(),
        lambda label: BoundaryDistance(boundary_distance(label), ignore_index=255),
    ),
}
# Upper limits for the whole label, in percent of the time of the pipeline.
BARS = {'BoundaryMaskFromLabel, ksize 3': 25, 'BoundaryMaskFromLabel, ksize 7': 50}


def load_results(image, label):
    """The input of a pipeline."""
    return dict(img_path=image, seg_map_path=label, label_map=None, reduce_zero_label=False, seg_fields=[])


def sample_of(label):
    return SegDataSample(gt_sem_seg=PixelData(data=label))


def check(transform, compute, label):
    """Check that the transform returns what the loss would compute."""
    sample = transform(dict(data_samples=sample_of(label)))['data_samples']
    (actual,), expected = unpack_boundary(sample.gt_boundary).values(), compute(label[0])
    tensors = {name: value for name, value in vars(expected).items() if isinstance(value, torch.Tensor)}
    if not all(torch.equal(getattr(actual, name), tensor) for name, tensor in tensors.items()):
        raise SystemExit(f'{transform} differs from the computation of the loss')
    return sample


def measure(repeats):
    config = Config.fromstring("_base_ = 'mmseg::_base_/datasets/cityscapes.py'", '.py')
    pipeline = Compose(config.train_pipeline)
    with tempfile.TemporaryDirectory() as folder:
        paths, image_bytes = write_scene(Path(folder))
        whole = torch.from_numpy(cv2.imread(paths[1], cv2.IMREAD_UNCHANGED)).long()[None]
        samples = {name: check(*each, whole) for name, each in TRANSFORMS.items()}
        times = {key: [] for key in ('pipeline', *((part, name) for name in TRANSFORMS for part in ('whole', 'crop')))}
        set_random_seed(0)
        for _ in range(repeats):
            results, time_ms = timed(lambda: pipeline(load_results(*paths)))
            times['pipeline'].append(time_ms)
            crop = results['data_samples'].gt_sem_seg.data
            for name, (transform, _) in TRANSFORMS.items():
                for part, label in (('whole', whole), ('crop', crop)):
                    _, time_ms = timed(partial(transform, dict(data_samples=sample_of(label))))
                    times[part, name].append(time_ms)
    pipeline_row = {**summary(times['pipeline']), 'image_file_bytes': image_bytes}
    rows = []
    for name, sample in samples.items():
        whole_row, crop_row = summary(times['whole', name]), summary(times['crop', name])
        rows.append(
            {
                'transform': name,
                'whole': whole_row,
                'crop': crop_row,
                'whole_percent_of_pipeline': round(100 * whole_row['ms'] / pipeline_row['ms'], 1),
                'crop_percent_of_pipeline': round(100 * crop_row['ms'] / pipeline_row['ms'], 1),
                'bar_percent': BARS.get(name),
                'label_bytes': len(pickle.dumps(sample.gt_sem_seg)),
                'boundary_bytes': len(pickle.dumps(sample.gt_boundary)),
            }
        )
    return {'pipeline': pipeline_row, 'transforms': rows}


def markdown(result):
    """The table of the README."""
    lines = [
        '| transform | label 1024×2048, ms | % of the pipeline | crop 512×1024, ms | % of the pipeline '
        '| bytes / those of the label |',
        '|---|---|---|---|---|---|',
    ]
    for row in result['transforms']:
        lines.append(
            f'| {row["transform"]} | {row["whole"]["ms"]:.0f} | {row["whole_percent_of_pipeline"]:.0f} '
            f'| {row["crop"]["ms"]:.0f} | {row["crop_percent_of_pipeline"]:.0f} '
            f'| {row["boundary_bytes"] / row["label_bytes"]:.2f} |'
        )
    return '\n'.join(lines)


def main():
    register_all_modules(init_default_scope=True)
    result = run_on_one_core('boundary_transform', __doc__, measure, markdown, repeats=25)
    print(f'pipeline: {result["pipeline"]["ms"]:.0f} ms')
    for row in result['transforms']:
        bar = row['bar_percent']
        if bar is not None and row['whole_percent_of_pipeline'] > bar:
            print(f'{row["transform"]} exceeds its limit of {bar} %')


if __name__ == '__main__':
    main()
