"""Reads the work dirs of MMEngine.

Each start of a tool is a session with its own folder, named by its start time. Training appends losses and validations
to ``vis_data/scalars.json`` in it; a test writes ``TIME.json``. Scores of each class are only in the tables that
metrics print to the log, ``TIME.log``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from math import inf, isfinite, isnan
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from ..cli.errors import UserError
from ..config_nodes import builds

TIME = '[0-9]' * 8 + '_' + '[0-9]' * 6
FINISHED = 'finished'
DIVERGED = 'diverged'
# mIoU and class IoU, of which it is the mean, are both rounded to two digits.
ROUNDING = 0.0101
# Held while MMEngine reads or writes a config: neither is safe in several threads (Python's parser up to 3.11.4).
CONFIG_LOCK = Lock()
# Names in the log of an evaluation that are not metrics.
NO_METRICS = {'time', 'data_time', 'step'}


class Result(NamedTuple):
    """The result of an evaluation, in percent.

    Attributes:
        progress: Number of epochs or iterations trained before, None if unknown.
        miou: mIoU.
        class_scores: Scores by class name, for each column of the metrics' tables ('IoU', 'Acc', 'BIoU', 'F 3px', ...);
            empty without tables in the log.
        metrics: All results of the evaluators by name.
    """

    progress: int | None
    miou: float
    class_scores: dict[str, dict[str, float]]
    metrics: dict[str, float]

    @property
    def class_iou(self) -> dict[str, float]:
        """IoU by class name, empty without a table in the log."""
        return self.class_scores.get('IoU', {})


class Run(NamedTuple):
    """A training run and its resumptions, or a test of weights trained elsewhere.

    Attributes:
        work_dir: Its work dir.
        started: Name of the first session's folder.
        cfg: Its config.
        num_gpus: Number of training processes, None if no log has it.
        result: Result at the end of training, if there is one.
        state: ``FINISHED``, or the reason why there is no result; starts with ``DIVERGED`` if the loss became infinite
            or NaN.
        sessions: Folders of the training sessions, by time.
        validations: Results of all validations, in order.
    """

    work_dir: Path
    started: str
    cfg: Config
    num_gpus: int | None
    result: Result | None
    state: str
    sessions: tuple[Path, ...] = ()
    validations: tuple[Result, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether it is finished or has diverged, so that there is nothing left to train."""
        return self.state == FINISHED or self.state.startswith(DIVERGED)


class _Session(NamedTuple):
    folder: Path
    cfg: Config
    trains: bool
    num_gpus: int | None
    results: list[Result]


def find_work_dirs(folder: str | Path) -> list[Path]:
    """The work dirs in a folder and its subfolders, the folder itself included, sorted."""
    return sorted({path.parent.resolve() for path in Path(folder).rglob(TIME) if path.is_dir()})


def find_runs(folders: Iterable[str | Path]) -> list[Run]:
    """Read the runs in folders, each work dir once. Work dirs without runs are reported on stderr.

    Args:
        folders: Work dirs, or folders that contain work dirs.

    Raises:
        UserError: A folder contains no work dir.
    """
    work_dirs: dict[Path, None] = {}
    for folder in folders:
        found = find_work_dirs(folder)
        if not found:
            raise UserError(
                f"No work dir in '{folder}': expected a folder named by its time, e.g. 20260131_235959, in it."
            )
        work_dirs.update(dict.fromkeys(found))
    runs = {work_dir: read_runs(work_dir) for work_dir in work_dirs}
    for work_dir in [work_dir for work_dir, found in runs.items() if not found]:
        print(
            f"No results in '{work_dir}': training has not logged anything, or its config cannot be read.",
            file=sys.stderr,
        )
    return [run for found in runs.values() for run in found]


def read_runs(work_dir: str | Path) -> list[Run]:
    """Read the runs in a work dir, by time.

    There are several if training was started more than once without resuming, and none without a result file or a
    readable config.
    """
    runs: list[list[_Session]] = []
    for session in filter(None, map(_read_session, sorted(Path(work_dir).glob(TIME)))):
        continues = session.cfg.get('resume') if session.trains else True
        if not continues or not runs:
            runs.append([])
        runs[-1].append(session)
    return [_join(Path(work_dir), sessions) for sessions in runs]


def read_scalars(run: Run) -> dict[str, dict[int, float]]:
    """Read the training log of a run.

    Returns:
        For each name, its values by the iteration after which they were logged. If an iteration was trained again
        after resuming, the last value is used. Names that training and validation share (``time``) are those of
        training.
    """
    rows: list[tuple[int, Any]] = []
    for folder in run.sessions:
        found = list(_rows_by_iteration(_read_rows(folder / 'vis_data' / 'scalars.json'), run.cfg))
        first = found[0][0] if found else inf
        rows = [row for row in rows if row[0] < first] + found
    trained = {name for _, row in rows if 'iter' in row for name in row}
    scalars: dict[str, dict[int, float]] = {}
    for iteration, row in rows:
        for name in row if 'iter' in row else row.keys() - trained:
            if isinstance(row[name], (int, float)):
                scalars.setdefault(name, {})[iteration] = row[name]
    return scalars


def _rows_by_iteration(rows: Any, cfg: Any) -> Iterator[tuple[int, Any]]:
    """Yield the number of trained iterations and the row; a validation without one has that of the row before."""
    logger = (cfg.get('default_hooks') or {}).get('logger') or {}
    by_iteration = not logger.get('log_metric_by_epoch', True)
    trained = None
    for row in rows:
        trained = row.get('iter', row.get('step') if by_iteration else trained)
        if trained is not None:
            yield trained, row


def _join(work_dir: Path, sessions: list[_Session]) -> Run:
    training = [session for session in sessions if session.trains]
    cfg = (training or sessions)[-1].cfg
    unit, total = length_of(cfg)
    results = [(result, session.trains) for session in sessions for result in session.results]
    finals = [(result, trains) for result, trains in results if result.progress == total]
    # Prefer results with class IoU, then validations to tests, then the latest.
    final = max(reversed(finals), key=lambda final: (bool(final[0].class_iou), final[1]), default=(None,))[0]
    if final is not None:
        state = FINISHED
    elif results:
        at = results[-1][0].progress
        state = f'not finished: evaluated at {unit} {"?" if at is None else at} of {total}'
    else:
        state = 'not evaluated yet'
    num_gpus = training[-1].num_gpus if training else None
    folders = tuple(session.folder for session in training)
    validations = tuple(result for result, trains in results if trains)
    run = Run(work_dir, sessions[0].folder.name, cfg, num_gpus, final, state, folders, validations)
    loss = read_scalars(run).get('loss', {})
    at = next((iteration for iteration, value in loss.items() if not isfinite(value)), None)
    return run if at is None else run._replace(result=None, state=f'{DIVERGED}: loss {loss[at]} at iteration {at}')


def length_of(cfg: Any) -> tuple[str, Any]:
    """The unit, 'epoch' or 'iter', and the length of a config's training in it, None if not set."""
    train_cfg = cfg.get('train_cfg') or {}
    unit = 'epoch' if 'max_epochs' in train_cfg else 'iter'
    return unit, train_cfg.get(f'max_{unit}s')


def _read_session(folder: Path) -> _Session | None:
    """Read the folder of a session; None without results or a readable config."""
    scalars = folder / 'vis_data' / 'scalars.json'
    test = folder / f'{folder.name}.json'
    cfg = _read_config(folder)
    if cfg is None or not (scalars.exists() or test.exists()):
        return None
    num_gpus, tables = _read_log(folder / f'{folder.name}.log')
    found: Iterable[tuple[Any, Any]]
    if scalars.exists():
        found = _validations(_read_rows(scalars), cfg)
    elif builds(cfg.get('model'), 'SegTTAModel'):
        return None
    else:
        progress = re.search(r'(\d+)\.pth$', cfg.get('load_from') or '')
        found = [(int(progress[1]) if progress else None, row) for row in _read_rows(test) if 'mIoU' in row]
    results = [_result(progress, row, tables) for progress, row in found]
    return _Session(folder, cfg, scalars.exists(), num_gpus, results)


def _result(progress: int | None, row: dict[str, Any], tables: Any) -> Result:
    metrics = {name: value for name, value in row.items() if name not in NO_METRICS}
    return Result(progress, row['mIoU'], _scores_of(row['mIoU'], tables), metrics)


def _read_config(folder: Path) -> Config | None:
    """Read the config in the folder of a session, or else in its work dir."""
    for path in (folder / 'vis_data' / 'config.py', *sorted(folder.parent.glob('*.py'))):
        try:
            with CONFIG_LOCK:
                return Config.fromfile(path, import_custom_modules=False)
        except (OSError, SyntaxError, NameError, ConfigParsingError):
            continue
    return None


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON document per line; a crash may have truncated the last one."""
    rows = []
    for line in path.read_text(errors='replace').splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if isinstance(row, dict)]


def _validations(rows: Any, cfg: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the progress and the row of each validation."""
    unit, _ = length_of(cfg)
    logger = (cfg.get('default_hooks') or {}).get('logger') or {}
    steps_fit = logger.get('log_metric_by_epoch', True) == (unit == 'epoch')
    trained = None
    for row in rows:
        trained = row.get(unit, trained)
        if 'mIoU' in row:
            yield row['step'] if steps_fit else trained, row


def _read_log(path: Path) -> tuple[int | None, list[dict[str, dict[str, float]]]]:
    """Read the number of processes and the class tables of each evaluation from the log of a session.

    The header of a table is 'Class' and the names of the scores; classes are between its second and third rule.
    """
    if not path.exists():
        return None, []
    num_gpus, scores, num_lines = None, [], 0
    evaluations: list[dict[str, dict[str, float]]] = []
    for line in path.read_text(errors='replace').splitlines():
        if num_gpus is None and 'GPU number: ' in line:
            num_gpus = int(line.rpartition(':')[2])
        elif line.startswith('+'):
            num_lines += 1
        elif line.startswith('|') and line.endswith('|'):
            name, *cells = (cell.strip() for cell in line[1:-1].split('|'))
            if name == 'Class':
                scores, num_lines = cells, 0
                if not evaluations or not evaluations[-1].keys().isdisjoint(scores):
                    evaluations.append({})
                evaluations[-1].update((score, {}) for score in scores)
            elif num_lines == 1 and len(cells) == len(scores):
                try:
                    for score, cell in zip(scores, cells, strict=True):
                        evaluations[-1][score][name] = float(cell)
                except ValueError:  # truncated by a crash
                    for score in scores:
                        del evaluations[-1][score]
                    scores = []
        else:
            scores = []
    return num_gpus, evaluations


def _scores_of(miou: float, evaluations: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The last class tables with this mean IoU, excluding classes without any pixel (NaN)."""
    for scores in reversed(evaluations):
        values = [value for value in scores.get('IoU', {}).values() if not isnan(value)]
        if values and abs(fmean(values) - miou) <= ROUNDING:
            return scores
    return {}
