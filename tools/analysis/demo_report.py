#!/usr/bin/env python
"""Compare two trained runs on a page with scores and figures, with a focus on boundaries.

Both are evaluated on the test data of their configs, with IoUMetric and with BoundaryMetric's default settings. Images,
class and line are chosen from the labels alone.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

import argparse
import math
import shlex
import string
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from typing import Any

import mmcv
import mmengine
import mmseg
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from prettytable import PrettyTable
from torch.utils.data import DataLoader

from mmseg_cpg.cli.checkpoint import load_checkpoint
from mmseg_cpg.cli.config import read_config
from mmseg_cpg.cli.errors import UserError, one_line_errors, user_errors
from mmseg_cpg.cli.require_data import require_data
from mmseg_cpg.cli.resume import find_newest_checkpoint
from mmseg_cpg.cli.runner import build_runner
from mmseg_cpg.cli.running import require_writable, running
from mmseg_cpg.config_nodes import name_losses
from mmseg_cpg.evaluation.boundary import (
    BoundarySettings,
    boundary_scores,
    count_boundaries,
    ids_in_labels,
    trimap_band,
    width_in_px,
)
from mmseg_cpg.experiments.work_dirs import DIVERGED, length_of, read_runs
from mmseg_cpg.structures import void_in_place_of_class
from mmseg_cpg.visualization import (
    Prediction,
    Scene,
    choose_line,
    draw_boundaries,
    draw_comparison,
    draw_errors,
    draw_gradients,
    draw_overview,
    draw_profile,
    head_ignore_index,
    names_and_colors,
)
from mmseg_cpg.visualization.pictures import BAND_PX

SETTINGS = BoundarySettings()
CLASS_TOLERANCE_PX = 3
KSIZES = (3, 5, 7)
CAUTION = (
    'This is one seed of a small network, trained for minutes: a smoke test, not evidence that CPG loss helps. With '
    'another seed, number of threads or machine, scores vary by several points.'
)


@dataclass
class Run:
    """A trained run: name, config and checkpoint, and path, label and prediction of each test image.

    ``iou`` is the IoU of each class, (C,), and ``scores`` the result of :func:`boundary_scores`; both in percent.
    """

    name: str
    cfg: Config
    checkpoint: Path
    metainfo: dict
    settings: BoundarySettings
    paths: list[str] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    iou: np.ndarray = field(default_factory=lambda: np.empty(0))
    scores: dict[str, Any] = field(default_factory=dict)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs=2, metavar='WORK_DIR', help='work dirs of the two runs, the baseline first')
    parser.add_argument(
        '-o', '--out', default='work_dirs/demo', help='folder for index.html and its figures (default: %(default)s)'
    )
    parser.add_argument('--num-tiles', type=int, default=5, help='number of images to show (default: %(default)s)')
    return parser


def find_checkpoint(work_dir: Path) -> Path:
    """The newest readable checkpoint of a work dir, which may have been moved since training."""
    checkpoint, skipped = find_newest_checkpoint(str(work_dir), require=load_checkpoint)
    if checkpoint is None:
        raise UserError(' '.join([f"'{work_dir}' is not a trained run: it contains no checkpoint.", *skipped]))
    return Path(checkpoint)


def load_run_config(work_dir: Path, checkpoint: Path) -> Config:
    """Read the config in a work dir and prepare it for testing a checkpoint."""
    configs = sorted(work_dir.glob('*.py'))
    if len(configs) != 1:
        raise UserError(f"'{work_dir}' must contain one config (*.py), but contains {len(configs)}.")
    cfg = read_config(str(configs[0]))
    cfg.load_from = str(checkpoint)
    cfg.resume = False
    cfg.launcher = 'none'
    cfg.log_level = 'ERROR'
    cfg.pop('visualizer', None)  # a visualizer is global and would keep the first run's folder
    require_data(cfg, 'test_dataloader')
    return cfg


def evaluate(work_dir: Path) -> Run:
    """Evaluate the run of a work dir on its test data."""
    checkpoint = find_checkpoint(work_dir)
    state = next((run.state for run in reversed(read_runs(work_dir))), '')
    if state.startswith(DIVERGED):
        raise UserError(f"'{work_dir}' cannot be compared: its training run {state}.")
    cfg = load_run_config(work_dir, checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        # MMEngine keeps loggers and visualizers by this name.
        cfg.work_dir = cfg.experiment_name = folder
        runner = build_runner(cfg)
        runner.load_or_resume()
        loader = runner.build_dataloader(cfg.test_dataloader)
        with running(cfg):
            samples = list(predict(runner.model, loader))
    classes, palette = names_and_colors(loader.dataset.metainfo)
    settings = replace(SETTINGS, ignore_index=head_ignore_index(runner.model))
    run = Run(name_losses(cfg.model), cfg, checkpoint, dict(classes=classes, palette=palette), settings)
    areas, counts = [], []
    for sample in samples:
        prediction = Prediction.from_sample(run.name, sample)
        label = sample.gt_sem_seg.data[0].cpu().numpy().astype(np.int32)
        maps = torch.from_numpy(prediction.label), torch.from_numpy(label)
        areas.append(IoUMetric.intersect_and_union(*maps, len(classes), settings.ignore_index))
        with user_errors(f"'{sample.img_path}': "):
            counts.append(count_boundaries(prediction.label, label, len(classes), settings))
        run.paths.append(sample.img_path)
        run.labels.append(label)
        run.predictions.append(prediction)
    intersect, union, *_ = (sum(each).numpy() for each in zip(*areas, strict=True))
    with np.errstate(invalid='ignore'):
        run.iou = 100 * intersect / union
    run.scores = boundary_scores(counts, settings)
    missing = void_in_place_of_class(ids_in_labels(counts, settings), len(classes), settings.ignore_index)
    if missing:
        print(f'Warning: {missing}', file=sys.stderr)
    return run


@torch.no_grad()
def predict(model: BaseModel, loader: DataLoader) -> Iterator[SegDataSample]:
    """The samples of a data loader with the predictions of a model."""
    model.eval()
    for batch in loader:
        yield from model.test_step(batch)


def tell_apart(runs: list[Run], work_dirs: list[str]) -> None:
    """Name two runs with the same losses by their work dirs."""
    if runs[0].name == runs[1].name:
        for run, work_dir in zip(runs, work_dirs, strict=True):
            run.name = work_dir
            run.predictions = [each._replace(name=work_dir) for each in run.predictions]


def compare(runs: list[Run]) -> PrettyTable:
    """A row for each score, with both runs, their difference, and the share of boundaries excluded near void."""
    table = PrettyTable(['in percent', *(run.name for run in runs), 'difference', 'excluded near void'])
    table.align = 'r'
    table.align['in percent'] = 'l'
    rows: list[tuple[str, Callable[[Run], float], float | None]] = [('mIoU', lambda run: np.nanmean(run.iou), None)]
    rows.append(('Boundary IoU', lambda run: run.scores['mBIoU'], runs[0].scores['BIoU_dropped']))
    for size_px, dropped in runs[0].scores['F_dropped'].items():
        rows.append((f'boundary F-score, {size_px} px', partial(_f_score, size_px), dropped))
    rows.append((f'accuracy within {BAND_PX} px of boundaries', lambda run: run.scores['trimap_aAcc'][BAND_PX], None))
    for name, score_of, dropped in rows:
        first, second = (round(float(score_of(run)), 2) for run in runs)
        table.add_row([name, text_of(first), text_of(second), f'{second - first:+.2f}', text_of(dropped)])
    return table


def _f_score(size_px: int, run: Run) -> float:
    return run.scores['F'][size_px]


def compare_classes(runs: list[Run]) -> PrettyTable:
    """The scores of each class, for both runs."""
    measures = {
        'IoU': lambda run: run.iou,
        'Boundary IoU': lambda run: run.scores['BIoU'],
        f'F {CLASS_TOLERANCE_PX} px': lambda run: run.scores['F_per_class'][CLASS_TOLERANCE_PX],
    }
    table = PrettyTable()
    table.add_column('in percent', runs[0].metainfo['classes'])
    for name, scores_of in measures.items():
        for run in runs:
            table.add_column(f'{name}: {run.name}', [text_of(score) for score in scores_of(run)])
    return table


def text_of(percent: float | None) -> str:
    """A score as text, a dash if there is none."""
    return '–' if percent is None or math.isnan(percent) else f'{percent:.2f}'


def describe(runs: list[Run]) -> PrettyTable:
    """Training settings and checkpoints of the runs."""
    table = PrettyTable(['', *(run.name for run in runs)])
    for name, value_of in {
        'config': lambda run: Path(run.cfg.filename).stem,
        'length': lambda run: '{1} {0}s'.format(*length_of(run.cfg)),
        'batch size': lambda run: run.cfg.train_dataloader.batch_size,
        'seed': lambda run: run.cfg.get('randomness', {}).get('seed'),
        'checkpoint': lambda run: run.checkpoint.name,
    }.items():
        table.add_row([name, *(value_of(run) for run in runs)])
    return table


def make_scenes(runs: list[Run]) -> list[Scene]:
    """The test images with both predictions, sorted by the number of pixels near boundaries, largest first."""
    metainfo = runs[0].metainfo
    ignore_index = runs[0].settings.ignore_index
    sizes = [trimap_band(label, BAND_PX, ignore_index).sum() for label in runs[0].labels]
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    return [
        Scene(
            mmcv.imread(runs[0].paths[index], channel_order='rgb'),
            runs[0].labels[index],
            [run.predictions[index] for run in runs],
            metainfo['classes'],
            metainfo['palette'],
            ignore_index,
        )
        for index in order
    ]


def draw(runs: list[Run], scenes: list[Scene], num_tiles: int) -> Iterator[tuple[str, Figure, str]]:
    """Yield name, figure and caption of each figure.

    The first shows the ``num_tiles`` images with the most boundary pixels, the others the median image.
    """
    median = scenes[len(scenes) // 2]
    class_index = median.main_class()
    line = choose_line(median.reference == class_index)
    name = f"'{median.classes[class_index]}'"
    shown = scenes[:num_tiles]
    title = f'{runs[1].name} and {runs[0].name}: the {len(shown)} of {len(scenes)} images with most boundary pixels'
    headings = [f'{run.name}\nmIoU {np.nanmean(run.iou):.1f}, mBIoU {run.scores["mBIoU"]:.1f}' for run in runs]
    yield (
        'overview',
        draw_overview(shown, title, headings),
        f'The label, its boundary, and both predictions with their errors within {BAND_PX} px of a boundary.',
    )
    yield (
        'comparison',
        draw_comparison(median),
        'The image with the median number of boundary pixels, and where only one prediction is right.',
    )
    yield (
        'errors',
        draw_errors(median, line),
        f'Right and wrong pixels within {BAND_PX} px of the boundaries; the close-up shows the framed square.',
    )
    yield (
        'gradients',
        draw_gradients(median, class_index, KSIZES[0], line),
        f'The probability of {name}, the class with the most boundary pixels, and the magnitude of its gradient, which '
        'CPG loss compares with the gradient of the label.',
    )
    yield (
        'profile',
        draw_profile(median, class_index, line),
        f'The probability of {name} along {line}: the steeper at the edges of the label, the sharper the boundary.',
    )
    yield (
        'boundaries',
        draw_boundaries(median, KSIZES, line),
        'The boundary pixels of CPG loss for each kernel size; void and pixels near void are excluded.',
    )


def write_page(runs: list[Run], scores: PrettyTable, scenes: list[Scene], num_tiles: int, out: Path) -> None:
    """Write index.html and its figures to a folder."""
    pictures = []
    for name, figure, caption in draw(runs, scenes, num_tiles):
        figure.savefig(out / f'{name}.png')
        caption = escape(caption)
        pictures.append(f'<figure><img src="{name}.png" alt="{caption}"><figcaption>{caption}</figcaption></figure>')
    height, width = scenes[0].reference.shape
    width_px = width_in_px(height, width, SETTINGS.width_ratio)
    num_pixels = sum(label.size for label in runs[0].labels)
    void = sum((label == runs[0].settings.ignore_index).sum() for label in runs[0].labels) / num_pixels
    template = string.Template(Path(__file__).with_suffix('.html').read_text())
    page = template.substitute(
        title=escape(f'{runs[1].name} against {runs[0].name}'),
        data=f'Evaluated on the {len(scenes)} images in {escape(str(Path(runs[0].paths[0]).parent))} with '
        f'{len(runs[0].iou)} classes; {100 * void:.1f} % of the pixels are void and excluded from all scores.',
        caution=CAUTION,
        scores=scores.get_html_string(),
        explanation=f'Boundary IoU compares bands of {width_px} px ({100 * SETTINGS.width_ratio:g} % of the image '
        'diagonal) inside each class; the F-score matches boundaries up to a tolerance. Boundaries closer than that to '
        "void are excluded, and the last column reports the excluded share of the label's boundary. "
        f'Accuracy within {BAND_PX} px is that of pixels at most {BAND_PX} px away from another label or void.',
        class_scores=compare_classes(runs).get_html_string(),
        choice='Images, class and line are chosen from the labels alone.',
        pictures='\n'.join(pictures),
        runs=describe(runs).get_html_string(),
        command=f'Trained by <code>bash tools/demo.sh</code>, evaluated and drawn by '
        f'<code>{escape(shlex.join(["python", *sys.argv]))}</code>, '
        f'with MMSegmentation {mmseg.__version__}, MMEngine {mmengine.__version__}, MMCV {mmcv.__version__} and '
        f'PyTorch {torch.__version__} on {get_device()}.',
    )
    (out / 'index.html').write_text(page, encoding='utf-8')


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with one_line_errors():
        if args.num_tiles < 1:
            raise UserError(f'--num-tiles must be at least 1, got {args.num_tiles}.')
        first, second = args.work_dirs
        if Path(first).resolve() == Path(second).resolve():
            raise UserError(f"'{first}' and '{second}' are the same work dir.")
        runs = [evaluate(Path(work_dir)) for work_dir in args.work_dirs]
        tell_apart(runs, args.work_dirs)
        if runs[0].paths != runs[1].paths:
            raise UserError('The two runs have different test data, so they cannot be compared.')
        require_writable(args.out, '--out')
    scores = compare(runs)
    print(scores)
    write_page(runs, scores, make_scenes(runs), args.num_tiles, Path(args.out))


if __name__ == '__main__':
    main()
