#!/usr/bin/env python
"""Plot training curves of one or more runs: losses, the share of the CPG loss, the share of boundary pixels, mIoU."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

import argparse
from collections import Counter
from collections.abc import Sequence

from mmseg_cpg.cli.errors import UserError, one_line_errors
from mmseg_cpg.experiments.curves import Curves, Panel, default_panels, plot_curves
from mmseg_cpg.experiments.work_dirs import Run, find_runs, read_scalars


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR', help='work dir of a run, or a folder that contains work dirs'
    )
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='KEY',
        help='names in the log to plot, e.g. loss decode.acc_seg mIoU (default: those above that are logged)',
    )
    parser.add_argument('--legend', nargs='+', metavar='NAME', help='names of the runs (default: their work dirs)')
    parser.add_argument(
        '--out', default='work_dirs/curves.png', metavar='FILE', help='image file to write (default: %(default)s)'
    )
    return parser


def name_runs(runs: list[Run], legend: list[str] | None) -> list[str]:
    """Name the runs: as in ``legend``, else by their work dirs, with the start time if several have the same name."""
    if legend is None:
        counts = Counter(run.work_dir.name for run in runs)
        legend = [
            f'{run.work_dir.name}, {run.started}' if counts[run.work_dir.name] > 1 else run.work_dir.name
            for run in runs
        ]
    if len(legend) != len(runs):
        started = ', '.join(f'{run.work_dir.name}/{run.started}' for run in runs)
        raise UserError(f'--legend needs a name for each of {len(runs)} runs ({started}), but got {len(legend)}.')
    return legend


def choose_panels(curves: list[Curves], runs: list[Run], keys: list[str] | None) -> list[Panel]:
    """The requested panels, or else those that show the CPG loss."""
    if keys is None:
        return default_panels(curves, [run.cfg for run in runs])
    logged = sorted({key for curve in curves for key in curve.scalars})
    for key in keys:
        if key not in logged:
            raise UserError(f"No run has logged '{key}'. The logs contain {', '.join(logged)}.")
    return [Panel(key, [key]) for key in keys]


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with one_line_errors():
        runs = [run for run in find_runs(args.work_dirs) if run.sessions]
        if not runs:
            raise UserError('These work dirs contain only tests, no training.')
        names = name_runs(runs, args.legend)
        curves = [Curves(name, read_scalars(run)) for name, run in zip(names, runs, strict=True)]
        panels = choose_panels(curves, runs, args.keys)
        if not panels:
            raise UserError('The training runs in these work dirs have not logged anything to plot yet.')
        figure = plot_curves(curves, panels)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
    print(f'Written to {out}.')


if __name__ == '__main__':
    main()
