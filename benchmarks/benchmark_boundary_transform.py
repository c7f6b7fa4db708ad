"""What BoundaryMaskFromLabel costs a data loader's worker, against the stock Cityscapes training pipeline.

    python benchmarks/benchmark_boundary_transform.py  writes benchmark_boundary_transform.json beside this file

One core, as in a worker. The pipeline is MMSegmentation's own for Cityscapes, on a made-up 1024 x 2048 PNG and its
label; the transform runs on that whole label and on the 512 x 1024 crop that the pipeline hands over. All in turn in
one run; correctness is checked first. Times are wall times in ms: median and 20 and 80 % percentiles. Bytes are those
of the pickled field of a data sample, as the main process gets it.
"""

import argparse
import json
import pickle
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import environment
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.runner import set_random_seed
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules
from street_labels import street_labels

from mmseg_cpg import BoundaryMaskFromLabel
from mmseg_cpg.ops import boundary_targets
from mmseg_cpg.structures import unpack_boundary

HEIGHT, WIDTH, NUM_CLASSES = 1024, 2048, 19
KSIZES = (3, 5, 7)
# Percent of the pipeline's time that the whole label may take.
BARS = {3: 25, 7: 50}


def write_scene(folder):
    """An image with smooth shading and a camera's noise over a street-like label: (paths, bytes of the image file)."""
    label = street_labels(1, NUM_CLASSES, HEIGHT, WIDTH)[0].numpy().astype(np.uint8)
    rng = np.random.default_rng(0)
    colour = rng.integers(30, 220, (256, 3))
    shading = cv2.resize(rng.normal(0, 25, (16, 32, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = colour[label] + shading + rng.normal(0, 1.2, (HEIGHT, WIDTH, 1))
    paths = str(folder / 'image.png'), str(folder / 'label.png')
    cv2.imwrite(paths[0], image.clip(0, 255).astype(np.uint8))
    cv2.imwrite(paths[1], label)
    return paths, Path(paths[0]).stat().st_size


def load_results(image, label):
    """What a dataset gives to its pipeline."""
    return dict(img_path=image, seg_map_path=label, label_map=None, reduce_zero_label=False, seg_fields=[])


def sample_of(label):
    return SegDataSample(gt_sem_seg=PixelData(data=label))


def check(transform, label):
    """The transform must give what the loss would find, before it is timed."""
    sample = transform(dict(data_samples=sample_of(label)))['data_samples']
    (ksize,) = transform.ksizes
    expected = boundary_targets(label, ksize)
    actual = unpack_boundary(sample.gt_boundary)[f'ksize{ksize}']
    if not all(
        torch.equal(getattr(actual, name), getattr(expected, name)) for name in ('pixel', 'category', 'gradient')
    ):
        raise SystemExit(f'BoundaryMaskFromLabel(ksize={ksize}) differs from boundary_targets')
    return sample


def summary(times):
    low, *_, high = statistics.quantiles(times, n=5)
    return {'ms': round(statistics.median(times), 2), 'p20_ms': round(low, 2), 'p80_ms': round(high, 2)}


def timed(run, times):
    start = time.perf_counter()
    result = run()
    times.append(1e3 * (time.perf_counter() - start))
    return result


def measure(repeats):
    config = Config.fromstring("_base_ = 'mmseg::_base_/datasets/cityscapes.py'", '.py')
    pipeline = Compose(config.train_pipeline)
    transforms = {ksize: BoundaryMaskFromLabel(ksize) for ksize in KSIZES}
    with tempfile.TemporaryDirectory() as folder:
        paths, image_bytes = write_scene(Path(folder))
        whole = torch.from_numpy(cv2.imread(paths[1], cv2.IMREAD_UNCHANGED)).long()[None]
        samples = {ksize: check(transform, whole) for ksize, transform in transforms.items()}
        times = {name: [] for name in ('pipeline', *((part, ksize) for ksize in KSIZES for part in ('whole', 'crop')))}
        set_random_seed(0)
        for _ in range(repeats):
            crop = timed(lambda: pipeline(load_results(*paths)), times['pipeline'])['data_samples'].gt_sem_seg.data
            for ksize, transform in transforms.items():
                for part, label in (('whole', whole), ('crop', crop)):
                    results = dict(data_samples=sample_of(label))
                    timed(lambda t=transform, r=results: t(r), times[part, ksize])
    pipeline_row = {**summary(times['pipeline']), 'image_file_bytes': image_bytes}
    rows = []
    for ksize in KSIZES:
        whole_row, crop_row = summary(times['whole', ksize]), summary(times['crop', ksize])
        sample = samples[ksize]
        rows.append(
            {
                'ksize': ksize,
                'whole': whole_row,
                'crop': crop_row,
                'whole_percent_of_pipeline': round(100 * whole_row['ms'] / pipeline_row['ms'], 1),
                'crop_percent_of_pipeline': round(100 * crop_row['ms'] / pipeline_row['ms'], 1),
                'bar_percent': BARS.get(ksize),
                'label_bytes': len(pickle.dumps(sample.gt_sem_seg)),
                'boundary_bytes': len(pickle.dumps(sample.gt_boundary)),
            }
        )
    return {'pipeline': pipeline_row, 'transform': rows}


def markdown(result):
    """The table of the README."""
    lines = [
        '| ksize | label 1024×2048, ms | % of the pipeline | crop 512×1024, ms | % of the pipeline '
        '| bytes / those of the label |',
        '|---|---|---|---|---|---|',
    ]
    for row in result['transform']:
        lines.append(
            f'| {row["ksize"]} | {row["whole"]["ms"]:.0f} | {row["whole_percent_of_pipeline"]:.0f} '
            f'| {row["crop"]["ms"]:.0f} | {row["crop_percent_of_pipeline"]:.0f} '
            f'| {row["boundary_bytes"] / row["label_bytes"]:.2f} |'
        )
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=25, help='counted runs of each case (default: 25)')
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    register_all_modules(init_default_scope=True)
    result = {'environment': environment('cpu'), **measure(args.repeats)}
    args.out.write_text(json.dumps(result, indent=1) + '\n')
    print(f'pipeline: {result["pipeline"]["ms"]:.0f} ms', markdown(result), f'wrote {args.out}', sep='\n\n')
    for row in result['transform']:
        bar = row['bar_percent']
        if bar is not None and row['whole_percent_of_pipeline'] > bar:
            print(f'ksize {row["ksize"]} misses its bar of {bar} %')


if __name__ == '__main__':
    main()
