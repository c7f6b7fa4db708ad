"""How much longer the losses take on a CPU where another process keeps one core busy.

    python -m benchmarks.under_load

All cases run in turn, first on the quiet machine, then next to a process that computes in an endless loop. Times are
wall times in ms: of forward and backward, or of a training step of the demo's network on a synthetic batch, optimizer
included. The table has the median of the quiet runs, and the median and the maximum of the others relative to it.
"""

import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mmseg_cpg.ops import boundary_targets, cpg_loss, cross_entropy_cpg_loss

from .common import against, environment, make_parser, result_path, run, setup, timed, write_result
from .synthetic import street_labels

LOGITS = (2, 19, 512, 1024)
KSIZES = (3, 5, 7)
DEMO = Path(__file__).parents[1] / 'configs' / 'demo'
BATCH_SIZE = 8
# The most that the median and the maximum may be over the quiet median; cross-entropy and stock steps have none.
MEDIAN_BAR, MAXIMUM_BAR = 2.5, 5


class Busy:
    """A process that keeps a core busy."""

    def __enter__(self):
        self._process = subprocess.Popen([sys.executable, '-c', 'while True: pass'])

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


def training_step(config):
    """A function that makes a training step of one of the demo's configs."""
    cfg = Config.fromfile(DEMO / config)
    model = MODELS.build(cfg.model).train()
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    crop_size = cfg.model.data_preprocessor.size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH_SIZE, 3, *crop_size), generator=generator, dtype=torch.uint8)
    label = street_labels(BATCH_SIZE, cfg.model.decode_head.num_classes, *crop_size)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in label]
    return lambda: model.train_step(dict(inputs=list(images), data_samples=samples), optim_wrapper)


def cases():
    """(name, whether it has bars, function)."""
    logits, label = setup(LOGITS, 'cpu')

    def of_loss(loss):
        return partial(run, loss, logits)

    yield 'cross-entropy', False, of_loss(lambda z: F.cross_entropy(z, label, ignore_index=255))
    for k in KSIZES:
        yield f'cpg_loss, ksize {k}', True, of_loss(lambda z, k=k: cpg_loss(z, label, k))
        fused = of_loss(lambda z, k=k: cross_entropy_cpg_loss(z, label, k).total)
        yield f'cross_entropy_cpg_loss, ksize {k}', True, fused
        yield f'boundary_targets, ksize {k}', True, partial(boundary_targets, label, k)
    yield 'demo step, CE', False, training_step('fast_scnn_1xb8-600i_blue-marble-256x256.py')
    yield 'demo step, CE + CPG3', True, training_step('fast_scnn_cpg3_1xb8-600i_blue-marble-256x256.py')


def times_ms(functions, repeats):
    """Times of each function, turn by turn; a turn before the first is not counted."""
    turns = [[timed(function)[1] for function in functions] for _ in range(repeats + 1)]
    return list(zip(*turns[1:], strict=True))


def measure(repeats):
    names, have_bars, functions = zip(*cases(), strict=True)
    quiet = times_ms(functions, repeats)
    with Busy():
        loaded = times_ms(functions, repeats)
    rows = []
    for name, has_bars, alone, beside in zip(names, have_bars, quiet, loaded, strict=True):
        median = statistics.median(alone)
        rows.append(
            {
                'case': name,
                'has_bars': has_bars,
                'quiet_ms': round(median, 1),
                'median_over_quiet': round(statistics.median(beside) / median, 2),
                'maximum_over_quiet': round(max(beside) / median, 2),
            }
        )
    return rows


def markdown(result):
    """The table of the documentation."""
    lines = [
        f'| | quiet, ms | busy ÷ quiet, median (bar {MEDIAN_BAR}) | maximum (bar {MAXIMUM_BAR}) |',
        '|---|---|---|---|',
    ]
    for row in result['cases']:
        template = '| {case} | {quiet_ms:.0f} | {median_over_quiet:.1f} | {maximum_over_quiet:.1f} |'
        lines.append(template.format(**row))
    return '\n'.join(lines)


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--repeats', type=int, default=25, help='timed runs of each case, quiet and busy (default: 25)')
    args = parser.parse_args()
    register_all_modules(init_default_scope=True)
    result = {'environment': environment('cpu'), 'repeats': args.repeats, 'cases': measure(args.repeats)}
    write_result(result, args.out or result_path('under_load', 'cpu'), markdown(result))
    for row in result['cases']:
        for key, bar in (('median_over_quiet', MEDIAN_BAR), ('maximum_over_quiet', MAXIMUM_BAR)):
            if row['has_bars'] and row[key] > bar:
                print(f'{row["case"]}, {key}: bar {against(row[key], bar)}')


if __name__ == '__main__':
    main()
