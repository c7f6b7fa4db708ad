#!/usr/bin/env python
"""Check the data of a config before training: missing and misplaced files, and invalid labels."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmseg_cpg.cli.config import load_config
from mmseg_cpg.cli.dataset_check import ERROR, WARNING, check_files, find_misplaced, find_missing
from mmseg_cpg.cli.errors import UserError, building, one_line_errors
from mmseg_cpg.cli.parser import make_config_parser, parse_args
from mmseg_cpg.cli.require_data import datasets_of, require_data
from mmseg_cpg.config_nodes import type_text

NUM_LABELS = 1000


def build_parser() -> argparse.ArgumentParser:
    parser = make_config_parser(
        'Check the data of a config: folders, numbers of files, pairs of image and label, image sizes, label values. '
        'The exit status is 1 if there are errors.'
    )
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=('train', 'val', 'test'),
        default=('train', 'val', 'test'),
        help='splits to check (default: all in the config)',
    )
    parser.add_argument(
        '--all-labels',
        action='store_true',
        help=f'read every image and label, not only {NUM_LABELS:,} of each split',
    )
    parser.set_defaults(launcher='none', local_rank=0, work_dir=None)
    return parser


def build_datasets(dataset_cfg: Any, loader: str, missing: Path | None) -> list[Any]:
    """Build the datasets of a config, those inside ConcatDataset separately, without listing their files.

    Args:
        dataset_cfg: The config.
        loader: Name of its data loader.
        missing: The first missing folder.

    Raises:
        UserError: A folder is missing; the message suggests a similar one.
    """
    try:
        require_data(ConfigDict({loader: dict(dataset=dataset_cfg)}), loader)
    except UserError as error:
        elsewhere = missing and find_misplaced(dataset_cfg, missing)
        raise UserError(f"{error} Is it '{elsewhere}'?" if elsewhere else str(error)) from error
    with building():
        dataset = DATASETS.build({**dataset_cfg, 'lazy_init': True})
    return getattr(dataset, 'datasets', [dataset])


def check_dataset(dataset: Any, loader: str, num_labels: int | None, checked: dict[Any, str]) -> Counter[str]:
    """Print the findings about the files of a dataset, and count errors and warnings.

    Args:
        dataset: Built without listing its files.
        loader: Name of its data loader.
        num_labels: How many labels to read, None for all.
        checked: Loaders by checked files or missing folder; this dataset is added.
    """
    print(f'{loader}: {type(dataset).__name__}')
    if not isinstance(dataset, BaseSegDataset) or (dataset.backend_args or {}).get('backend', 'local') != 'local':
        print('  not checked: only local datasets derived from BaseSegDataset are supported')
        return Counter()
    files = (*dataset.data_prefix.values(), dataset.ann_file, dataset.img_suffix, dataset.seg_map_suffix)
    if files in checked:
        print(f'  same files as {checked[files]}')
        return Counter()
    checked[files] = loader
    found: Counter[str] = Counter()
    for mark, line in check_files(dataset, num_labels):
        print(f'  {mark}: {line}' if mark else f'  {line}', flush=True)
        found[mark] += 1
    return found


def check_loader(cfg: Config, loader: str, num_labels: int | None, checked: dict[Any, str]) -> Counter[str]:
    """Run :func:`check_dataset` for each dataset of a data loader."""
    found: Counter[str] = Counter()
    for dataset_cfg in datasets_of(cfg[loader].dataset):
        missing = find_missing(dataset_cfg)
        if missing in checked:
            print(f"{loader}: {type_text(dataset_cfg)}\n  '{missing}' is missing, see {checked[missing]}")
            continue
        try:
            datasets = build_datasets(dataset_cfg, loader, missing)
        except UserError as error:
            print(f'{loader}: {type_text(dataset_cfg)}\n  {ERROR}: {error}')
            found[ERROR] += 1
            if missing is not None:
                checked[missing] = loader
        else:
            for dataset in datasets:
                found += check_dataset(dataset, loader, num_labels, checked)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(build_parser(), argv)
    with one_line_errors():
        cfg = load_config(args)
        init_default_scope(cfg.default_scope)
        loaders = [f'{split}_dataloader' for split in args.splits if cfg.get(f'{split}_dataloader') is not None]
        if not loaders:
            raise UserError(f"Config '{args.config}' has no data loader for {', '.join(args.splits)}.")
        checked: dict[Any, str] = {}
        num_labels = None if args.all_labels else NUM_LABELS
        found: Counter[str] = sum((check_loader(cfg, loader, num_labels, checked) for loader in loaders), Counter())
        problems, warnings = found[ERROR], found[WARNING]
        if problems:
            raise UserError(f"{problems} error{'s' if problems > 1 else ''} in the data of '{args.config}', see above.")
        if warnings:
            print(f'No errors, {warnings} warning{"s" if warnings > 1 else ""}, see above.')
        else:
            print('No problems found.')


if __name__ == '__main__':
    main()
