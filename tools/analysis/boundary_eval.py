#!/usr/bin/env python
"""Boundary IoU, trimap IoU and boundary F-score of a folder of predicted label maps."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from mmseg_cpg.cli.errors import UserError, one_line_errors, user_errors
from mmseg_cpg.datasets.files import list_files
from mmseg_cpg.datasets.label_values import map_with_progress
from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries
from mmseg_cpg.evaluation.boundary_tables import boundary_tables


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pred_dir', help='folder of predictions, such as test.py --out saves')
    parser.add_argument('gt_dir', help='folder of labels, subfolders included')
    parser.add_argument('--num-classes', type=int, required=True, help='number of classes')
    parser.add_argument('--ignore-index', type=int, default=255, help='void in the labels (default: %(default)s)')
    parser.add_argument(
        '--reduce-zero-label',
        action='store_true',
        help="classes start at 1 in the files and 0 is void: ADE20K's labels, and the predictions saved for them",
    )
    parser.add_argument(
        '--pred-suffix',
        default='.png',
        metavar='SUFFIX',
        help='how the names of predictions end, e.g. _leftImg8bit.png (default: %(default)s)',
    )
    parser.add_argument(
        '--gt-suffix',
        default='.png',
        metavar='SUFFIX',
        help='how the names of labels end, e.g. _gtFine_labelTrainIds.png; other files are passed over '
        '(default: %(default)s)',
    )
    width = parser.add_mutually_exclusive_group()
    width.add_argument('--width-px', type=int, metavar='D', help='width of the bands of Boundary IoU in pixels')
    width.add_argument(
        '--width-ratio',
        type=float,
        default=BoundarySettings.width_ratio,
        metavar='R',
        help="the same as a share of the image's diagonal; 0.005 is usual for Cityscapes (default: %(default)s)",
    )
    parser.add_argument(
        '--trimap-widths-px',
        type=int,
        nargs='*',
        default=BoundarySettings.trimap_widths_px,
        metavar='W',
        help='widths of the trimaps in pixels (default: %(default)s)',
    )
    parser.add_argument(
        '--tolerances-px',
        type=int,
        nargs='*',
        default=BoundarySettings.tolerances_px,
        metavar='T',
        help='tolerances of the boundary F-score in pixels (default: %(default)s)',
    )
    parser.add_argument(
        '--average',
        choices=('dataset', 'image'),
        default=BoundarySettings.average,
        help="sum over all images, as mIoU does, or take the mean of the images' scores (default: %(default)s)",
    )
    parser.add_argument('--json', metavar='OUT', help='file to write the scores to, in percent')
    return parser


def make_settings(args: argparse.Namespace) -> BoundarySettings:
    """Turn the command line into settings."""
    with user_errors('The options do not fit: '):
        return BoundarySettings(
            ignore_index=args.ignore_index,
            width_px=args.width_px,
            width_ratio=args.width_ratio,
            trimap_widths_px=args.trimap_widths_px,
            tolerances_px=args.tolerances_px,
            average=args.average,
        )


def find_pairs(pred_dir: Path, gt_dir: Path, pred_suffix: str, gt_suffix: str) -> list[tuple[Path, Path]]:
    """List the predictions and labels that belong together.

    A label's prediction has its name, but for the suffixes, and is in the same subfolder or, as MMSegmentation saves
    them, in no subfolder.

    Returns:
        list[tuple[Path, Path]]: Prediction and label, sorted by label.
    """
    for folder in (pred_dir, gt_dir):
        if not folder.is_dir():
            raise UserError(f"Folder '{folder}' not found.")
    names = sorted(name.removesuffix(gt_suffix) for name in list_files(gt_dir, gt_suffix))
    if not names:
        raise UserError(f"No labels (*{gt_suffix}) in '{gt_dir}'.")
    pairs: list[tuple[Path, Path]] = []
    missing: list[tuple[Path, Path]] = []
    label_of: dict[Path, Path] = {}
    for name in names:
        label = gt_dir / f'{name}{gt_suffix}'
        places = [pred_dir / f'{name}{pred_suffix}', pred_dir / f'{Path(name).name}{pred_suffix}']
        pred = next((place for place in places if place.is_file()), None)
        if pred is None:
            missing.append((label, places[0]))
        elif pred in label_of:
            raise UserError(f"'{pred}' would be the prediction for two labels, '{label_of[pred]}' and '{label}'.")
        else:
            label_of[pred] = label
            pairs.append((pred, label))
    if missing:
        label, place = missing[0]
        raise UserError(
            f"{len(missing)} of {len(names)} labels have no prediction: '{label}' needs '{place}' "
            '(--pred-suffix and --gt-suffix set the filename suffixes).'
        )
    return pairs


def read_map(path: Path) -> np.ndarray:
    """Read a label map of one channel, which may be a palette's indices."""
    try:
        with Image.open(path) as image:
            label_map = np.array(image)
    except (OSError, SyntaxError) as error:  # the latter is Pillow's, for damaged PNG files
        raise UserError(f"'{path}' cannot be read: {error}.") from error
    if label_map.ndim != 2:
        raise UserError(f"'{path}' has {label_map.shape[-1]} channels, but a label map has one.")
    return label_map


def count_pair(args: argparse.Namespace, settings: BoundarySettings, paths: tuple[Path, Path]) -> dict[str, np.ndarray]:
    """Count on a prediction and its label what the scores need."""
    pred, label = (read_map(path) for path in paths)
    if args.reduce_zero_label:
        pred, label = (reduce_zero_label(each, settings.ignore_index) for each in (pred, label))
    with user_errors(f"'{paths[0]}' and '{paths[1]}': "):
        return count_boundaries(pred, label, args.num_classes, settings)


def reduce_zero_label(label_map: np.ndarray, ignore_index: int) -> np.ndarray:
    """Let classes start at 0 instead of 1, and void stay void."""
    void = (label_map == 0) | (label_map == ignore_index)
    return np.where(void, ignore_index, label_map.astype(np.result_type(label_map, np.int64)) - 1)


def without_nan(scores: Any) -> Any:
    """Turn scores into what JSON has: lists for arrays, null for NaN."""
    if isinstance(scores, dict):
        return {key: without_nan(value) for key, value in scores.items()}
    if isinstance(scores, np.ndarray):
        return [without_nan(value) for value in scores.tolist()]
    return None if isinstance(scores, float) and np.isnan(scores) else scores


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    Image.MAX_IMAGE_PIXELS = None  # the maps are the user's own, however large
    with one_line_errors():
        settings = make_settings(args)
        pairs = find_pairs(Path(args.pred_dir), Path(args.gt_dir), args.pred_suffix, args.gt_suffix)
        counts = list(map_with_progress(partial(count_pair, args, settings), pairs, 'Evaluating'))
    scores = boundary_scores(counts, settings)
    for title, table in boundary_tables(scores, range(args.num_classes)).items():
        print(title, table, sep='\n')
    print(f'{len(pairs)} images, mBIoU {scores["mBIoU"]:.2f}')
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        result = dict(num_images=len(pairs), settings=asdict(settings), **without_nan(scores))
        Path(args.json).write_text(json.dumps(result, indent=1) + '\n')
        print(f'Written to {args.json}.')


if __name__ == '__main__':
    main()
