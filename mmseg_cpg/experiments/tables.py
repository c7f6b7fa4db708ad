"""The paper's Tables 1 to 4 with results of runs next to the paper's, as Markdown and CSV."""

from __future__ import annotations

import os.path as osp
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from prettytable import PrettyTable, TableStyle

from . import paper
from .experiments import Experiment, deviations, differences, identify, training_part
from .work_dirs import Run

NOT_RUN = 'not run'
THEIRS, OURS = (
    ', '.join(f'{weight} for k = {ksize}' for ksize, weight in weights.items())
    for weights in (paper.BEST_LOSS_WEIGHTS, paper.LOSS_WEIGHTS)
)
THEIRS_AND_OURS = f"The paper's best λ is {THEIRS}; the corresponding λ here is {OURS}."
EXACT = (
    f'The boundary is exact here and in floating point in the paper. {THEIRS_AND_OURS} The runs shown use the latter.'
)
DIFFERS = "\\* differs from the paper's recipe, see the list of runs."


class Measured(NamedTuple):
    """The mean of several runs in percent, their number, and whether they differ from the paper's recipe."""

    mean: float
    count: int  # type: ignore[assignment]  # hides the method of tuple
    differs: bool

    def __str__(self) -> str:
        mean = f'{self.mean:.2f}{"*" if self.differs else ""}'
        return mean if self.count == 1 else f'{mean} (mean of {self.count})'


class Table(NamedTuple):
    """A table; its cells are text or :class:`Measured`."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]]
    notes: list[str]

    def markdown(self) -> str:
        """The title, the table and its notes."""
        grid = PrettyTable(self.columns)
        grid.set_style(TableStyle.MARKDOWN)
        grid.add_rows([[str(cell) for cell in row] for row in self.rows])
        return '\n\n'.join([f'## {self.title}', grid.get_string(), *self.notes]) + '\n'

    def csv(self) -> str:
        """The table, with a column for the number of runs after each column of results."""
        grid = PrettyTable()
        for i, column in enumerate(self.columns):
            cells = [row[i] for row in self.rows]
            grid.add_column(column, [f'{cell.mean:.2f}' if isinstance(cell, Measured) else cell for cell in cells])
            if any(isinstance(cell, Measured) or cell == NOT_RUN for cell in cells):
                counts = [cell.count if isinstance(cell, Measured) else 0 for cell in cells]
                grid.add_column(f'{column}: runs', counts)
        return grid.get_csv_string(lineterminator='\n')


class Entry(NamedTuple):
    """A run, its experiment (None if not in the paper), its deviations, and why it is excluded ('' if it is not)."""

    run: Run
    experiment: Experiment | None
    deviations: list[str]
    excluded: str


def make_tables(runs: list[Run]) -> list[Table]:
    """Make Tables 1 to 4 and the list of the runs.

    Runs of an experiment are averaged if only the seed and the location of the data differ. Of runs with other
    differences, those closest to the paper's recipe are used.
    """
    entries = [_enter(run) for run in runs]
    best = {cell: min(group, key=lambda entry: len(entry.deviations)) for cell, group in _group(entries).items()}
    entries = [entry if entry.excluded else _compare(entry, best[entry.experiment]) for entry in entries]
    cells = _group(entries)
    return [_table_1(cells), _table_2(cells), _table_3(cells), _table_4(cells), _list_of_runs(entries)]


def _enter(run: Run) -> Entry:
    try:
        experiment = identify(run.cfg)
    except ValueError as error:
        return Entry(run, None, [], f'not in the paper: {error}')
    return Entry(run, experiment, deviations(run.cfg, experiment, run.num_gpus), '' if run.result else run.state)


def _group(entries: list[Entry]) -> dict[Any, list[Entry]]:
    """Group the entries that are not excluded by experiment."""
    cells: dict[Any, list[Entry]] = {}
    for entry in entries:
        if not entry.excluded:
            cells.setdefault(entry.experiment, []).append(entry)
    return cells


def _compare(entry: Entry, chosen: Entry) -> Entry:
    """Exclude an entry if it was not trained like the one chosen for its cell."""
    expected, part = training_part(chosen.run.cfg), training_part(entry.run.cfg)
    if None not in (chosen.run.num_gpus, entry.run.num_gpus):
        expected['GPUs'], part['GPUs'] = chosen.run.num_gpus, entry.run.num_gpus
    found = next(differences(expected, part), None)
    if found is None:
        return entry
    return entry._replace(
        excluded=f'not trained like {chosen.run.work_dir.name}/{chosen.run.started}, which is used instead ({found})'
    )


def _mean(cells: Any, value: Any, network: str, dataset: str, ksize: int, loss_weight: float, rmi: bool = False) -> Any:
    """Average ``value`` over the runs of an experiment, without None."""
    entries = cells.get(Experiment(network, dataset, ksize, loss_weight, rmi), [])
    values = [value(entry.run.result) for entry in entries]
    values = [number for number in values if number is not None]
    if not entries:
        return NOT_RUN
    return Measured(fmean(values), len(values), bool(entries[0].deviations)) if values else 'not in the log'


def _class_iou(name: str, result: Any) -> Any:
    return result.class_iou.get(name)


def _miou(cells: Any, network: str, dataset: str, ksize: int, rmi: bool = False) -> Any:
    return _mean(cells, lambda result: result.miou, network, dataset, ksize, paper.LOSS_WEIGHTS.get(ksize, 0.0), rmi)


def _table_1(cells: Any) -> Table:
    columns, rows = ['class'], [[name] for name in paper.CLASSES]
    total = ['mIoU']
    for ksize, class_iou in paper.TABLE_1.items():
        loss = f'CE+CPG{ksize}' if ksize else 'CE'
        columns += [f'{loss}, paper', f'{loss}, here']
        weight = paper.LOSS_WEIGHTS.get(ksize, 0.0)
        for row, name, iou in zip(rows, paper.CLASSES, class_iou, strict=True):
            iou_here = partial(_class_iou, name)
            here = _mean(cells, iou_here, paper.DEEPLABV3, paper.CITYSCAPES, ksize, weight)
            row += [f'{iou:.2f}', here]
        best = max(paper.TABLE_2[ksize].values()) if ksize else paper.BASELINE
        total += [f'{best:.2f}', _miou(cells, paper.DEEPLABV3, paper.CITYSCAPES, ksize)]
    notes = [
        "The paper's mIoU is that of Table 2. 'not in the log': the class table is missing; "
        '`tools/test.py CONFIG LAST_CHECKPOINT --work-dir WORK_DIR` writes it.',
        EXACT,
        DIFFERS,
    ]
    title = 'Table 1: class IoU, %, DeepLabv3-R50 on Cityscapes'
    return Table('table_1', title, columns, [*rows, total], notes)


def _table_2(cells: Any) -> Table:
    where = paper.DEEPLABV3, paper.CITYSCAPES
    columns = ['k', 'λ', 'paper, floating-point boundary', 'here, exact boundary']
    rows = [['no CPG', '0', f'{paper.BASELINE:.2f}', _miou(cells, *where, 0)]]
    for ksize, sweep in paper.TABLE_2.items():
        tried = {cell.loss_weight for cell in cells if cell[:3] == (*where, ksize) and not cell.rmi}
        for weight in sorted({*sweep, *tried}):
            theirs = f'{sweep[weight]:.2f}' if weight in sweep else 'not in the paper'
            ours = _mean(cells, lambda result: result.miou, *where, ksize, weight)
            rows.append([str(ksize), f'{weight:g}', theirs, ours])
    notes = [
        'Equal λ do not mean equal losses: rounding errors reduce the loss with a floating-point boundary. '
        f'{THEIRS_AND_OURS}',
        DIFFERS,
    ]
    return Table('table_2', 'Table 2: mIoU, %, over λ, DeepLabv3-R50 on Cityscapes', columns, rows, notes)


def _table_3(cells: Any) -> Table:
    columns = ['data', 'network', 'CE, paper', 'CE, here', 'CE+CPG, paper', "paper's kernel"]
    columns += [f'CE+CPG{ksize}, here' for ksize in paper.KSIZES]
    rows = []
    for (dataset, network), (without, with_cpg) in paper.TABLE_3.items():
        ksize = paper.TABLE_3_KSIZES.get((dataset, network))
        kernel = f'k = {ksize} (by Table 2)' if ksize else 'not stated'
        here = [_miou(cells, network, dataset, size) for size in (0, *paper.KSIZES)]
        rows.append([dataset, network, f'{without:.2f}', here[0], f'{with_cpg:.2f}', kernel, *here[1:]])
    return Table('table_3', 'Table 3: mIoU, %, by network and data', columns, rows, [EXACT, DIFFERS])


def _table_4(cells: Any) -> Table:
    columns = ['losses', 'mIoU, paper', 'mIoU, here']
    columns += [f'{step}, s, paper' for step in ('forward', 'backward', 'batch')] + ['times, here']
    rows = []
    for (rmi, ksize), cost in paper.TABLE_4.items():
        losses = '+'.join(['BCE', *(['RMI'] if rmi else []), *([f'CPG{ksize}'] if ksize else [])])
        sign = '+' if rmi or ksize else ''
        times = [f'{sign}{time:.3f}' for time in cost[1:]]
        miou = _miou(cells, paper.DEEPLABV3, paper.CITYSCAPES, ksize, rmi)
        rows.append([losses, f'{cost.miou:.3f}', miou, *times, 'not measured'])
    notes = [
        "The paper's times are per batch on A100-40GB GPUs; from the second row on they are added to those of the "
        'first. Work dirs contain no such measurement.',
        EXACT,
        DIFFERS,
    ]
    return Table('table_4', 'Table 4: with RMI loss, DeepLabv3-R50 on Cityscapes', columns, rows, notes)


def _list_of_runs(entries: Any) -> Table:
    columns = ['work dir', 'started', 'experiment', 'mIoU, %', 'in the tables', "differs from the paper's recipe in"]
    rows = []
    for run, experiment, differing, excluded in entries:
        rows.append(
            [
                osp.relpath(run.work_dir),
                run.started,
                str(experiment or 'none'),
                f'{run.result.miou:.2f}' if run.result else run.state,
                f'no, {excluded}' if excluded else _place(experiment),
                ', '.join(differing) or '-',
            ]
        )
    notes = [
        'mIoU is that of the end of training. Length, learning rate, crop, total batch size, main loss, void policy, '
        'and weight and preset of RMI are compared with the recipe; the header of each config lists further deviations.'
    ]
    return Table('runs', 'The runs', columns, rows, notes)


def _place(experiment: Experiment) -> str:
    """The tables that contain an experiment."""
    deeplabv3 = experiment[:2] == (paper.DEEPLABV3, paper.CITYSCAPES)
    usual_weight = experiment.loss_weight == paper.LOSS_WEIGHTS.get(experiment.ksize, 0.0)
    tables = {
        '1': deeplabv3 and usual_weight and not experiment.rmi,
        '2': deeplabv3 and not experiment.rmi,
        '3': usual_weight and not experiment.rmi,
        '4': deeplabv3 and usual_weight,
    }
    return ', '.join(number for number, is_in_it in tables.items() if is_in_it) or 'no, no cell has its losses'
