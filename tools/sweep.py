#!/usr/bin/env python
"""Train a config once for each weight (lambda) of its CPG loss.

Each training is a process of its own, in a folder of its own below the work dir. The same command goes on where it
stopped: finished trainings are skipped, and one that was interrupted is resumed from its latest checkpoint. A table
(sweep.md, sweep.csv) and a plot (sweep.png) are written after each of them.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bootstrap  # noqa: F401  before everything that imports the stack

from mmseg_cpg.cli.config import load_config, require_keys
from mmseg_cpg.cli.errors import UserError, one_line_errors
from mmseg_cpg.cli.parser import add_gpus, make_config_parser, parse_args
from mmseg_cpg.config_nodes import cpg_losses
from mmseg_cpg.experiments import paper
from mmseg_cpg.experiments.sweep import Point, Sweep, lambda_caveat, paper_sweep
from mmseg_cpg.experiments.trainings import Launcher, claim, has_ended, stoppable
from mmseg_cpg.experiments.work_dirs import read_runs

TOOLS = Path(__file__).resolve().parent
WEIGHT = re.compile(r'\d+(\.\d+)?(e[+-]\d+)?')


def build_parser() -> argparse.ArgumentParser:
    parser = make_config_parser('Train a config once for each weight (lambda) of its CPG loss.')
    parser.add_argument(
        '--values',
        nargs='+',
        type=loss_weight,
        metavar='LAMBDA',
        help="loss weights (default: 0 and those of the paper's Table 2 for the config's ksize)",
    )
    parser.add_argument(
        '--work-dir',
        help='folder for the trainings, the table and the plot (default: work_dirs/CONFIG_NAME_sweep)',
    )
    add_gpus(parser)
    return parser


def loss_weight(text: str) -> float:
    """Parse a loss weight."""
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f'expected a finite number >= 0, but got {text}')
    return value


def choose_values(values: list[float] | None, ksizes: list[int]) -> list[float]:
    """The weights to train with, sorted: those asked for, or else 0 and Table 2's for the kernel size.

    Raises:
        UserError: If none are asked for and Table 2 has none.
    """
    if values is not None:
        return sorted(set(values))
    if len(ksizes) > 1 or ksizes[0] not in paper.TABLE_2:
        raise UserError(f"The paper's Table 2 has no weights for ksize {', '.join(map(str, ksizes))}: give --values.")
    values = [0.0, *paper.TABLE_2[ksizes[0]]]
    print(f'λ = {", ".join(f"{value:g}" for value in values)} as in Table 2. {lambda_caveat(ksizes[0])}')
    return values


def set_weight(cfg: Any, value: float) -> None:
    """Set the weight of every CPG loss in a config."""
    for loss, _ in cpg_losses(cfg.model):
        loss.loss_weight = value


def read_point(folder: Path, value: float) -> Point:
    """Read how the training of a weight stands."""
    runs = read_runs(folder)
    if not runs:
        return Point(value, None, 'not run')
    return Point(value, runs[-1].result and runs[-1].result.miou, runs[-1].state)


def write_report(sweep: Sweep, work_dir: Path) -> None:
    """Write the table of a sweep, and its plot as soon as a training is finished."""
    (work_dir / 'sweep.md').write_text(sweep.table().markdown())
    (work_dir / 'sweep.csv').write_text(sweep.table().csv())
    if sweep.best is not None:
        sweep.figure().savefig(work_dir / 'sweep.png')


def run_sweep(args: argparse.Namespace) -> None:
    """Train with each weight, and report after each."""
    cfg = load_config(args)
    require_keys(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'val_dataloader', 'val_evaluator')
    ksizes = sorted({loss.get('ksize', 3) for loss, _ in cpg_losses(cfg.model)})
    if not ksizes:
        raise UserError(f"Config '{args.config}' has no CPGLoss, whose loss_weight is what a sweep varies.")
    values = choose_values(args.values, ksizes)
    work_dir = Path(args.work_dir or f'{cfg.work_dir}_sweep')
    set_weight(cfg, 1.0)  # the same for all trainings, so that a sweep is known again by its config
    theirs, differing = paper_sweep(cfg, args.gpus)
    with claim(work_dir, 'sweep', 'lambda_*', cfg, args.gpus) as lock:
        launcher = Launcher(TOOLS, args.gpus, lock)
        folders = {value: work_dir / f'lambda_{value:.12g}' for value in values}
        failed = []
        for number, (value, folder) in enumerate(folders.items(), 1):
            ended = has_ended(folder)
            state = 'has ended' if ended else 'trains'
            print(f'λ = {value:g} ({number} of {len(values)}) {state} in {folder}.', flush=True)
            if not ended:
                set_weight(cfg, value)
                if launcher.train(cfg, folder) is not None:
                    failed.append(f'{value:g}')
            # Those of an earlier start with other values stay in the report.
            earlier = [path for path in work_dir.glob('lambda_*') if WEIGHT.fullmatch(path.name[7:])]
            by_weight = {**folders, **{float(path.name[7:]): path for path in earlier}}
            points = [read_point(path, weight) for weight, path in sorted(by_weight.items())]
            write_report(Sweep(Path(args.config).stem, ksizes, points, theirs, differing), work_dir)
    print((work_dir / 'sweep.md').read_text())
    print(f'Written to {work_dir}.')
    if failed:
        raise UserError(
            f'{len(failed)} of {len(values)} trainings failed (λ = {", ".join(failed)}); their messages are above. '
            'The same command goes on with them.'
        )


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(build_parser(), argv)
    with one_line_errors(), stoppable():
        run_sweep(args)


if __name__ == '__main__':
    main()
