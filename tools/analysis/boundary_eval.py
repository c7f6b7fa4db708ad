#!/usr/bin/env python
"""Evaluate a folder of predicted label maps with Boundary IoU, trimap IoU and boundary F-score."""

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
from mmseg_cpg.cli.running import disk_faults, require_writable
from mmseg_cpg.datasets.files import list_files
from mmseg_cpg.datasets.label_values import map_with_progress
from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries, ids_in_labels
from mmseg_cpg.evaluation.boundary_tables import boundary_tables
from mmseg_cpg.experiments.files import write_atomically
from mmseg_cpg.structures import void_in_place_of_class


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('pred_dir', help='folder of predictions, such as those saved by test.py --out')
    parser.add_argument('gt_dir', help='folder of labels, including subfolders')
    parser.add_argument('--num-classes', type=int, required=True, help='number of classes')
    parser.add_argument('--ignore-index', type=int, default=255, help='id of void pixels (default: %(default)s)')
    parser.add_argument(
        '--reduce-zero-label',
        action='store_true',
        help='class ids in the files start at 1 and 0 is void, as in labels and saved predictions of ADE20K',
    )
    parser.add_argument(
        '--pred-suffix',
        default='.png',
        metavar='SUFFIX',
        help='filename suffix of predictions, e.g. _leftImg8bit.png (default: %(default)s)',
    )
    parser.add_argument(
        '--gt-suffix',
        default='.png',
        metavar='SUFFIX',
        help='filename suffix of labels, e.g. _gtFine_labelTrainIds.png; others are skipped (default: %(default)s)',
    )
    width = parser.add_mutually_exclusive_group()
    width.add_argument('--width-px', type=int, metavar='D', help='width of the Boundary IoU bands in pixels')
    width.add_argument(
        '--width-ratio',
        type=float,
        default=BoundarySettings.width_ratio,
        metavar='R',
        help='the same as a fraction of the image diagonal; usually 0.005 for Cityscapes (default: %(default)s)',
    )
    parser.add_argument(
        '--trimap-widths-px',
        type=int,
        nargs='*',
        default=BoundarySettings.trimap_widths_px,
        metavar='W',
        help='trimap widths in pixels (default: %(default)s)',
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
        help='sum counts over all images, as for mIoU, or average the scores of the images (default: %(default)s)',
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
    """Match predictions and labels.

    A prediction has the name of its label except for the suffix, and is in the same subfolder or, as MMSegmentation
    saves them, directly in ``pred_dir``.

    Returns:
        Prediction and label, sorted by label.
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
            raise UserError(f"'{pred}' matches two labels, '{label_of[pred]}' and '{label}'.")
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
    """Read a label map with one channel, which may contain palette indices."""
    try:
        with Image.open(path) as image:
            label_map = np.array(image)
    except (OSError, SyntaxError) as error:  # Pillow raises the latter for damaged PNG files
        raise UserError(f"'{path}' cannot be read: {error}.") from error
    if label_map.ndim != 2:
        raise UserError(f"'{path}' has {label_map.shape[-1]} channels, expected a label map with one.")
    return label_map


def count_pair(args: argparse.Namespace, settings: BoundarySettings, paths: tuple[Path, Path]) -> dict[str, np.ndarray]:
    """Count what the scores need on a prediction and its label."""
    pred, label = (read_map(path) for path in paths)
    if args.reduce_zero_label:
        pred, label = (reduce_zero_label(each, settings.ignore_index) for each in (pred, label))
    with user_errors(f"'{paths[0]}' and '{paths[1]}': "):
        return count_boundaries(pred, label, args.num_classes, settings)


def reduce_zero_label(label_map: np.ndarray, ignore_index: int) -> np.ndarray:
    """Shift class ids to start at 0 instead of 1, and keep void."""
    void = (label_map == 0) | (label_map == ignore_index)
    return np.where(void, ignore_index, label_map.astype(np.result_type(label_map, np.int64)) - 1)


def without_nan(scores: Any) -> Any:
    """Convert scores for JSON: arrays to lists, NaN to null."""
    if isinstance(scores, dict):
        return {key: without_nan(value) for key, value in scores.items()}
    if isinstance(scores, np.ndarray):
        return [without_nan(value) for value in scores.tolist()]
    return None if isinstance(scores, float) and np.isnan(scores) else scores


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    Image.MAX_IMAGE_PIXELS = None  # the files are the user's own, so large ones are no attack
    with one_line_errors():
        settings = make_settings(args)
        if args.json:
            require_writable(str(Path(args.json).parent), '--json')
        pairs = find_pairs(Path(args.pred_dir), Path(args.gt_dir), args.pred_suffix, args.gt_suffix)
        counts = list(map_with_progress(partial(count_pair, args, settings), pairs, 'Evaluating'))
    missing = void_in_place_of_class(ids_in_labels(counts, settings), args.num_classes, settings.ignore_index)
    if missing:
        print(f'Warning: {missing}', file=sys.stderr)
    scores = boundary_scores(counts, settings)
    for title, table in boundary_tables(scores, range(args.num_classes), settings).items():
        print(title, table, sep='\n')
    print(f'{len(pairs)} images, mBIoU {scores["mBIoU"]:.2f}')
    if args.json:
        result = dict(num_images=len(pairs), settings=asdict(settings), **without_nan(scores))
        with one_line_errors(), disk_faults(args.json, 'The scores are above.'):
            write_atomically(Path(args.json), json.dumps(result, indent=1) + '\n')
        print(f'Written to {args.json}.')


if __name__ == '__main__':
    main()
