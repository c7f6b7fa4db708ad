#!/usr/bin/env python
"""Compare two trained runs in a picture and a small table, above all at the boundaries.

Both runs are evaluated on the test data of their configs. The boundary band holds the labelled pixels that have a
pixel of another class, void not counted, at most 2 pixels away along either axis. The picture shows the tiles with the
most band pixels, whatever the predictions look like there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

import argparse
import tempfile
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmseg_cpg.utils.cli import build_runner
from mmseg_cpg.utils.data import require_data
from mmseg_cpg.utils.errors import UserError, one_line_errors
from mmseg_cpg.utils.parts import name_losses
from mmseg_cpg.visualization import boundary_band, paint_classes, paint_masks
from mmseg_cpg.visualization.painting import RIGHT_COLOUR, VOID_COLOUR, WRONG_COLOUR

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

BAND_PX = 2


class Run(NamedTuple):
    """What a run was trained with, its mIoU in percent, its predictions ((H, W) of uint8 each) and their data."""

    title: str
    miou: float
    predictions: list
    paths: list
    metainfo: dict


class Tile(NamedTuple):
    """A test image (H, W, 3) in RGB and its label, both uint8, and the boundary band (bool), (H, W)."""

    image: np.ndarray
    label: np.ndarray
    band: np.ndarray


def parse_args():
    parser = argparse.ArgumentParser(description='Draw the predictions of two runs side by side, with their errors.')
    parser.add_argument('work_dirs', nargs=2, metavar='WORK_DIR', help='work dirs of the two runs, the baseline first')
    parser.add_argument('-o', '--out', default='work_dirs/demo.png', help='picture to write (default: %(default)s)')
    parser.add_argument('--num-tiles', type=int, default=5, help='how many tiles to show (default: %(default)s)')
    return parser.parse_args()


def load_run_config(work_dir):
    """Read the config and the name of the latest checkpoint that training left in a work dir."""
    configs = sorted(Path(work_dir).glob('*.py'))
    checkpoint = find_latest_checkpoint(work_dir) if len(configs) == 1 else None
    if checkpoint is None:
        raise UserError(f"'{work_dir}' is no finished run: expected one config (*.py) and a checkpoint in it.")
    cfg = Config.fromfile(configs[0])
    cfg.load_from = checkpoint
    cfg.resume = False
    cfg.launcher = 'none'
    return cfg


def evaluate(work_dir):
    """Evaluate the run of a work dir on its test data."""
    cfg = load_run_config(work_dir)
    require_data(cfg, 'test_dataloader')
    cfg.pop('visualizer', None)  # MMEngine makes one for the process, which would keep the first run's folder
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        cfg.log_level = 'ERROR'
        cfg.test_evaluator.output_dir = folder
        runner = build_runner(cfg)
        metrics = runner.test()
        dataset = runner.test_dataloader.dataset
        infos = (dataset.get_data_info(index) for index in range(len(dataset)))
        paths = [(info['img_path'], info['seg_map_path']) for info in infos]
        predictions = [read_map(Path(folder, Path(image).stem + '.png')) for image, _ in paths]
    return Run(name_losses(cfg.model), metrics['mIoU'], predictions, paths, dataset.metainfo)


def read_tile(image_path, label_path):
    """Read a tile from its two files."""
    label = read_map(label_path)
    return Tile(cv2.cvtColor(cv2.imread(image_path), cv2.COLOR_BGR2RGB), label, boundary_band(label, BAND_PX))


def read_map(path):
    """Read a map of class indices, (H, W) of uint8."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def band_error(predictions, tiles):
    """Percentage of the bands' pixels whose class is wrong, over all the tiles together."""
    wrong = [(prediction != tile.label)[tile.band] for prediction, tile in zip(predictions, tiles, strict=True)]
    return 100 * np.concatenate(wrong).mean()


def paint_errors(prediction, tile):
    """Colour the boundary band by right and wrong over a dark grey image."""
    wrong = tile.band & (prediction != tile.label)
    return paint_masks(tile.image, (tile.band, RIGHT_COLOUR), (wrong, WRONG_COLOUR))


def draw(runs, tiles, shown, out):
    """Draw a row for each shown tile: image, label, predictions and boundary errors of the runs.

    Args:
        runs (list[Run]): The runs.
        tiles (list[Tile]): All tiles.
        shown (list[int]): Indices of the tiles to show.
        out (Path): Picture to write.
    """
    classes, palette = (runs[0].metainfo[key] for key in ('classes', 'palette'))
    headers = [
        'image',
        'label',
        *(f'{run.title}\nmIoU {run.miou:.1f} %' for run in runs),
        *(f'{run.title}: boundary\n{band_error(run.predictions, tiles):.1f} % wrong' for run in runs),
    ]
    figure, axes = plt.subplots(
        len(shown), len(headers), figsize=(2.3 * len(headers), 2.3 * len(shown) + 1.6), squeeze=False, layout='tight'
    )
    for axis, header in zip(axes[0], headers, strict=True):
        axis.set_title(header, fontsize=12)
    for row, index in zip(axes, shown, strict=True):
        tile = tiles[index]
        predictions = [run.predictions[index] for run in runs]
        panels = [
            tile.image,
            paint_classes(tile.label, palette),
            *(paint_classes(prediction, palette) for prediction in predictions),
            *(paint_errors(prediction, tile) for prediction in predictions),
        ]
        for axis, panel in zip(row, panels, strict=True):
            axis.imshow(panel, interpolation='nearest')
            axis.set_xticks([])
            axis.set_yticks([])
        for axis, prediction in zip(row[-len(runs) :], predictions, strict=True):
            box = dict(facecolor='black', edgecolor='none', alpha=0.6, pad=2)
            text = f'{band_error([prediction], [tile]):.0f} % wrong'
            axis.text(0.03, 0.04, text, transform=axis.transAxes, color='white', fontsize=9, bbox=box)
    entries = [*zip(classes, palette, strict=True), ('void', VOID_COLOUR)]
    entries += [('boundary, right class', RIGHT_COLOUR), ('boundary, wrong class', WRONG_COLOUR)]
    handles = [Patch(facecolor=np.array(colour) / 255, edgecolor='grey', label=name) for name, colour in entries]
    figure.suptitle(
        f'{runs[1].title} against {runs[0].title}: the {len(shown)} of {len(tiles)} validation tiles with the most '
        f'boundary pixels (within {BAND_PX} px of another class)',
        fontsize=14,
    )
    figure.legend(handles=handles, loc='lower center', ncols=len(palette), fontsize=11, frameon=False)
    figure.get_layout_engine().set(rect=(0, 0.5 / figure.get_figheight(), 1, 1))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def main():
    args = parse_args()
    with one_line_errors():
        runs = [evaluate(work_dir) for work_dir in args.work_dirs]
        if runs[0].paths != runs[1].paths:
            raise UserError('The two runs are not tested on the same data, so they cannot be compared.')
    tiles = [read_tile(*paths) for paths in runs[0].paths]
    print(f'{"":>20}{"mIoU":>10}{f"wrong within {BAND_PX} px of a boundary":>36}')
    for run in runs:
        print(f'{run.title:>20}{run.miou:>9.2f}%{band_error(run.predictions, tiles):>35.2f}%')
    shown = sorted(range(len(tiles)), key=lambda index: -tiles[index].band.sum())[: args.num_tiles]
    draw(runs, tiles, shown, Path(args.out))
    print(f'Picture: {args.out}')


if __name__ == '__main__':
    main()
