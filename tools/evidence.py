#!/usr/bin/env python
"""Train the runs of the evidence study, or write their results to docs/evidence.md.

``run`` trains on one of the datasets in the planned order. Give the same command again to resume: what is in the record
is not repeated, even without its work dir. ``report`` writes the tables and plots of the page from the record.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bootstrap  # noqa: F401  before everything that imports the stack
from mmengine.config import Config

from mmseg_cpg.cli.errors import UserError, one_line_errors
from mmseg_cpg.cli.loss_spec import parse_losses
from mmseg_cpg.config_nodes import losses_of
from mmseg_cpg.experiments.records import Record
from mmseg_cpg.experiments.study import DATASETS, stages
from mmseg_cpg.experiments.study_report import write_page

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
RECORD = ROOT / 'docs/evidence/trainings.csv'
PAGE = ROOT / 'docs/evidence.md'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Run the evidence study, or write its page.')
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', help='train on a dataset in the planned order')
    run.add_argument('dataset', choices=DATASETS)
    run.add_argument('--jobs', default='1', help='number of runs side by side (default: %(default)s)')
    run.add_argument('--csv', type=Path, default=RECORD, help='record of the runs (default: that of the page)')
    commands.add_parser('report', help="write the page's tables and plots")
    return parser


def run(dataset: Any, jobs: str, record: Any) -> None:
    """Train the runs of a dataset. Failed ones do not stop the others.

    Raises:
        UserError: Some failed.
    """
    failed = 0
    for stage in stages(dataset, record.rows):
        config = ROOT / f'configs/evidence/{stage.config}.py'
        _check_own_losses(config, stage.own)
        command = [sys.executable, TOOLS / 'compare_losses.py', config]
        command += ['--work-dir', f'work_dirs/evidence/{stage.config}', '--csv', record.path, '--jobs', jobs]
        command += ['--seeds', *stage.seeds, '--losses', *stage.losses]
        failed += subprocess.run([str(part) for part in command]).returncode != 0
    if failed:
        raise UserError(f'{failed} comparisons of the study are not complete. Run the same command again to continue.')


def _check_own_losses(config: Path, own: str) -> None:
    """Raise UserError unless a config trains with these losses, which were chosen after it was written."""
    added = [part for part in parse_losses(own).parts if not isinstance(part, str)]
    _, *found = losses_of(Config.fromfile(config).model.decode_head)
    if [{**loss, 'type': loss['type'].removeprefix('mmseg_cpg.')} for loss in found] != added:
        raise UserError(f"'{config}' must add {added} to its main loss, as was chosen for '{own}', but adds {found}.")


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with one_line_errors():
        if args.command == 'run':
            run(DATASETS[args.dataset], args.jobs, Record(args.csv))
        else:
            write_page(Record(RECORD).rows(), PAGE)


if __name__ == '__main__':
    main()
