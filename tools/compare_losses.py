#!/usr/bin/env python
"""Train a config with several losses and seeds, and compare mIoU, boundary quality, step time and memory.

Each run has its own process, and its own folder in the work dir. Give the same command again to resume: finished runs
are skipped, and interrupted ones continue from their latest checkpoint. You can add losses and seeds. Tables
(compare.md, compare.csv, compare_trainings.csv) and a plot (compare.png) are updated after each run. --csv also records
every run in a file that outlives the work dirs; runs recorded there are skipped.
"""

from __future__ import annotations

import argparse
import copy
import re
import zlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import bootstrap  # noqa: F401  before everything that imports the stack

from mmseg_cpg.cli.config import load_config, require_keys
from mmseg_cpg.cli.errors import UserError, one_line_errors
from mmseg_cpg.cli.loss_spec import BASE, LossChoice, check_losses, choose_losses, parse_losses
from mmseg_cpg.cli.parser import add_gpus, make_config_parser, parse_args
from mmseg_cpg.cli.require_data import require_data
from mmseg_cpg.cli.running import disk_faults, require_writable
from mmseg_cpg.config_nodes import builds, final_head, losses_of, name_losses, type_name
from mmseg_cpg.evaluation.boundary import BoundarySettings
from mmseg_cpg.experiments.comparison import Comparison, Measure, Training
from mmseg_cpg.experiments.comparison_plot import draw_comparison
from mmseg_cpg.experiments.costs import read_costs
from mmseg_cpg.experiments.files import write_atomically
from mmseg_cpg.experiments.records import Record, fingerprint, make_row, provenance, read_row
from mmseg_cpg.experiments.trainings import Launcher, claim, stoppable
from mmseg_cpg.experiments.work_dirs import DIVERGED, FINISHED, read_runs, read_scalars

TOOLS = Path(__file__).resolve().parent
TOLERANCE_PX = 3
LETTERS_OF_FOLDER = 80
CONTINUE = 'Run the same command again to continue.'
WEIGHT = re.compile(r'((?:^|\+)[\w.]+):')  # what precedes a weight
EPILOG = """\
losses:
  base                      the losses of the config's final head: the baseline, which is always trained
  base+CPGLoss:1.5          an additional loss, with a weight
  base+CPGLoss:2,ksize=5    with options, separated by commas
  TverskyLoss               this loss alone, in place of the config's

Any loss in the MODELS registry can be named; custom_imports in the config registers your own. In a cascade, the last
head is changed. Quote losses with brackets or quotation marks.

examples:
  python tools/compare_losses.py CONFIG --losses base+CPGLoss:1 base+DiceLoss:0.5 TverskyLoss --seeds 0 1 2
  python tools/compare_losses.py CONFIG --losses base+CPGLoss:{0.1,0.3,1,3} --seeds 0    (several weights, in bash)
"""


class Job(NamedTuple):
    """A training run: its losses, their title in tables, their names in the log, its seed and its work dir."""

    choice: LossChoice
    title: str
    loss_names: list
    seed: int
    folder: Path


def build_parser() -> argparse.ArgumentParser:
    parser = make_config_parser('Train a config with several losses and seeds, and compare the results.')
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        '--losses', nargs='+', required=True, metavar='LOSSES', help="losses to compare with the config's, see below"
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=random_seed,
        required=True,
        metavar='SEED',
        help='random seeds; each loss is trained with each of them',
    )
    parser.add_argument(
        '--work-dir',
        help='folder for training runs, tables and plot (default: work_dirs/CONFIG_NAME_compare)',
    )
    parser.add_argument('--jobs', type=positive, default=1, help='number of training runs side by side (default: 1)')
    parser.add_argument(
        '--csv', metavar='FILE', help='also record each training run in a row of this file, which comparisons can share'
    )
    add_gpus(parser)
    return parser


def positive(text: str) -> int:
    """Parse a number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, but got {text}')
    return value


def random_seed(text: str) -> int:
    """Parse a seed."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f'expected a number from 0 to 4294967295, but got {text}')
    return value


def prepare(cfg: Any) -> tuple[list[Measure], str]:
    """Add what is compared to a config: boundary scores in validation, and memory on CPU.

    Returns:
        The scores of its validation, and a note that defines the boundary scores.
    """
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, (list, tuple)) else [cfg.val_evaluator]
    boundary = next((each for each in evaluators if builds(each, 'BoundaryMetric')), None)
    if boundary is None:
        ignore_index = next((each.ignore_index for each in evaluators if 'ignore_index' in each), 255)
        boundary = dict(type='mmseg_cpg.BoundaryMetric', ignore_index=ignore_index, trimap_widths_px=())
        cfg.val_evaluator = [*evaluators, boundary]
    # A training run that was interrupted in its last validation is tested instead.
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = cfg.get('test_cfg') or dict(type='TestLoop')
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='mmseg_cpg.PeakMemoryHook')]
    return boundary_scores_of(boundary)


def boundary_scores_of(metric: Any) -> tuple[list[Measure], str]:
    """The scores to show for a BoundaryMetric (config): mIoU, Boundary IoU and the F-score of one tolerance."""
    names = {field.name for field in fields(BoundarySettings)}
    settings = BoundarySettings(**{name: value for name, value in metric.items() if name in names})
    prefix = f'{metric["prefix"]}/' if metric.get('prefix') else ''
    tolerances = settings.tolerances_px
    shown = [TOLERANCE_PX] if TOLERANCE_PX in tolerances else tolerances[:1]
    scores = [
        Measure('mIoU', 'mIoU', '%'),
        Measure(f'{prefix}mBIoU', 'Boundary IoU', '%'),
        *(Measure(f'{prefix}mF_{px}px', f'F-score {px} px', '%') for px in shown),
    ]
    width = (
        f'{100 * settings.width_ratio:g} % of the diagonal' if settings.width_px is None else f'{settings.width_px} px'
    )
    return scores, f"Boundary IoU uses bands {width} wide, as set by BoundaryMetric in the config's val_evaluator."


def plan(cfg: Any, texts: list[str], seeds: list[int], work_dir: Path) -> list[Job]:
    """List the training runs by seed, so that the first comparison is complete early, each with the baseline first.

    Raises:
        UserError: If the losses cannot be read or built.
    """
    choices = {choice.name: choice for choice in map(parse_losses, [BASE, *texts])}
    own = name_losses(cfg.model)
    named = [(choice, choice.title(own), check_losses(choice)) for choice in choices.values()]
    return [
        Job(choice, title, loss_names, seed, work_dir / folder_name(choice.name, seed))
        for seed in dict.fromkeys(seeds)
        for choice, title, loss_names in named
    ]


def folder_name(losses: str, seed: int) -> str:
    """Name the folder of a training run, without characters that are special in shells or file systems."""
    name = WEIGHT.sub(r'\1=', losses)
    plain = re.sub(r'[^\w.,=+-]', '_', name)[:LETTERS_OF_FOLDER]
    if plain != name:
        plain += f'-{zlib.crc32(name.encode()):08x}'
    return f'{plain}_seed_{seed}'


def config_of(cfg: Any, job: Job) -> Any:
    """The config of a training run."""
    cfg = copy.deepcopy(cfg)
    choose_losses(cfg, job.choice)
    cfg.randomness.seed = job.seed
    cfg.provenance = provenance()
    return cfg


class Results:
    """The states of the training runs of a comparison, from their folders and the record.

    Args:
        config: Name of the config.
        config_sha256: Fingerprint of the config, since its name may be reused.
        record: The record, if there is one.

    Raises:
        UserError: If the record contains training runs of another config of that name.
    """

    def __init__(self, config: str, config_sha256: str, record: Any) -> None:
        self._config = config
        self._config_sha256 = config_sha256
        self._record = record
        rows = record.rows() if record else []
        if any(row['config'] == config and row['config_sha256'] != config_sha256 for row in rows):
            raise UserError(
                f"'{record.path}' contains runs of another '{config}', which has changed since. Use another --csv."
            )

    def read(self, job: Job, fault: str | None = None) -> Training:
        """Read the state of a training run, and its measures if it is finished. ``fault`` is why it failed just now."""
        row = self._record and self._record.find(self._config, job.choice.name, job.seed)
        if row:
            return read_row(row, job.folder.name)
        runs = read_runs(job.folder)
        state, values = runs[-1].state if runs else 'not run', {}
        if runs and runs[-1].has_ended:
            scalars = read_scalars(runs[-1])
            logged = {key.rpartition('.')[2] for key in scalars}
            unused = [name for name in job.loss_names if 'loss' in logged and name not in logged]
            if unused:
                state = f'failed: the head does not use {", ".join(unused)}, which is not in the log'
            else:
                self._add(job, runs[-1])
                if runs[-1].result is not None:
                    values = {**runs[-1].result.metrics, **read_costs(runs[-1])._asdict()}
        elif fault is not None:
            state = f'failed: {fault}'
        return Training(job.title, job.seed, state, job.folder.name, values)

    def _add(self, job: Job, run: Any) -> None:
        if self._record:
            row = make_row(self._config, job.choice.name, job.seed, job.title, self._config_sha256, run)
            self._record.add(row)


def has_ended(training: Training) -> bool:
    """Whether a training run is finished or has diverged."""
    return training.state.startswith((FINISHED, DIVERGED))


def write_report(comparison: Comparison, work_dir: Path) -> None:
    """Write the tables, and the plot if a loss can be compared."""
    tables = [comparison.table(), comparison.list_of_trainings()]
    write_atomically(work_dir / 'compare.md', '\n'.join(table.markdown() for table in tables))
    for table in (comparison.numbers(), comparison.list_of_trainings()):
        write_atomically(work_dir / f'{table.name}.csv', table.csv())
    figure = draw_comparison(comparison)
    if figure is not None:
        figure.savefig(work_dir / 'compare.png')


def compare(args: argparse.Namespace) -> None:
    """Train with each loss and seed, and report after each."""
    cfg = load_config(args)
    require_keys(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'val_dataloader', 'val_evaluator')
    head = final_head(cfg.model)
    if not losses_of(head):
        raise UserError(
            f"The final head of config '{args.config}', {type_name(head)}, sets no loss_decode, so there is nothing to "
            'compare.'
        )
    work_dir = Path(args.work_dir or f'{cfg.work_dir}_compare')
    jobs = plan(cfg, args.losses, args.seeds, work_dir)
    require_data(cfg, 'train_dataloader', 'val_dataloader')
    scores, band = prepare(cfg)
    # --seeds replaces the seed of the config.
    cfg.randomness = {key: value for key, value in (cfg.get('randomness') or {}).items() if key != 'seed'}
    own = f'{jobs[0].title} stands for the losses of the config: {losses_of(head)}.'
    name = Path(args.config).stem
    results = Results(name, fingerprint(cfg), args.csv and Record(args.csv))
    if args.csv:
        require_writable(str(Path(args.csv).parent), '--csv')
    with disk_faults(work_dir, CONTINUE), claim(work_dir, cfg, args.gpus) as lock:
        launcher = Launcher(TOOLS, args.gpus, lock, args.jobs)
        trainings = [results.read(job) for job in jobs]
        comparison = Comparison(name, trainings, scores, [band, own])
        left = [index for index, training in enumerate(trainings) if not has_ended(training)]
        for index, job in enumerate(jobs):
            state = f'to be trained in {job.folder}' if index in left else trainings[index].state
            print(f'{job.title}, seed {job.seed} ({index + 1} of {len(jobs)}): {state}.', flush=True)

        def on_end(place: int, fault: str | None) -> None:
            index = left[place]
            trainings[index] = results.read(jobs[index], fault)
            print(f'{trainings[index].losses}, seed {trainings[index].seed}: {trainings[index].state}.', flush=True)
            write_report(comparison, work_dir)

        launcher.train_all([(config_of(cfg, jobs[index]), jobs[index].folder) for index in left], on_end)
        write_report(comparison, work_dir)
    print(comparison.table().markdown())
    print(f'Written to {work_dir}.')
    failed = [each for each in trainings if not has_ended(each)]
    if failed:
        reasons = '; '.join(f'{each.losses}, seed {each.seed}, {each.state}' for each in failed)
        raise UserError(f'{len(failed)} of {len(jobs)} training runs have no result ({reasons}). {CONTINUE}')


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(build_parser(), argv)
    with one_line_errors(), stoppable():
        compare(args)


if __name__ == '__main__':
    main()
