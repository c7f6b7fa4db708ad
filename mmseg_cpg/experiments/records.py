"""A CSV record of training runs, from which tables and plots are made without the work dirs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ..cli.errors import UserError, describe
from .comparison import Training
from .costs import read_costs
from .experiments import training_settings
from .files import wait_for_lock, write_atomically
from .work_dirs import FINISHED, Run, read_scalars

# Columns that identify a training run.
KEY = ('config', 'losses', 'seed')
# Columns before the scores.
ABOUT = (*KEY, 'title', 'state', 'iterations', 'validations', 'config_sha256', 'started', 'commit', 'device')
PACKAGES = (
    *('torch', 'numpy', 'mmcv', 'mmengine', 'mmsegmentation'),
    *('onedl-mmcv', 'onedl-mmengine', 'onedl-mmsegmentation'),
)
# Scores by class that are not recorded: those of trimaps, for five widths.
TRIMAP = ('IoU ', 'Acc ')
# The repository in a checkout; in an installation git may find another project's here.
ROOT = Path(__file__).resolve().parents[2]
# The recorded share of the CPG loss is the mean over this last part of the training.
LAST = 1 / 3


class Record:
    """A CSV file with a row for each training run that ended. Several processes can write to it.

    Args:
        path: The file, created with the first row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def rows(self) -> list[dict[str, str]]:
        """The rows, as text by column.

        Raises:
            UserError: The file cannot be read, or is not a record of training runs.
        """
        if not self.path.exists():
            return []
        try:
            with self.path.open(newline='') as file:
                reader = csv.DictReader(file)
                columns, rows = reader.fieldnames or [], list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"'{self.path}' cannot be read ({describe(error)}).") from error
        missing = [name for name in ABOUT if name not in columns]
        if missing:
            raise UserError(f"'{self.path}' is not a record of training runs: it has no column '{missing[0]}'.")
        return [{name: text or '' for name, text in row.items()} for row in rows]

    def find(self, config: str, losses: str, seed: int) -> dict[str, str] | None:
        """The row of a training run, or None."""
        return next((row for row in self.rows() if _key(row) == (config, losses, str(seed))), None)

    def add(self, row: dict[str, Any]) -> None:
        """Add or replace the row of a training run, from :func:`make_row`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f'.{self.path.name}.lock').open('a') as lock:
            wait_for_lock(lock)
            rows = [each for each in self.rows() if _key(each) != _key(row)]
            rows.append({name: _text(value) for name, value in row.items()})
            columns = dict.fromkeys(name for each in rows for name in each)
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, restval='', lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(self.path, text.getvalue())


def make_row(config: str, losses: str, seed: int, title: str, config_sha256: str, run: Run) -> dict[str, Any]:
    """Make the row of a training run that ended.

    Args:
        config: Name of the config.
        losses: Its losses as on the command line.
        seed: Its seed.
        title: Its losses in tables.
        config_sha256: :func:`fingerprint` of its config.
        run: The run read from its work dir.

    Returns:
        Values by column: settings, costs and, unless it diverged, scores.
    """
    return {
        **dict(zip(KEY, (config, losses, seed), strict=True)),
        'title': title,
        'state': run.state,
        'iterations': run.cfg.train_cfg.get('max_iters') or f'{run.cfg.train_cfg.max_epochs} epochs',
        'validations': json.dumps([[each.progress, *_validation(each)] for each in run.validations]),
        'config_sha256': config_sha256,
        'started': run.started,
        **(run.cfg.get('provenance') or dict(commit='', device='')),
        **read_costs(run)._asdict(),
        'cpg_share': _last(read_scalars(run).get('cpg_share', {})),
        **(_scores(run.result) if run.state == FINISHED else {}),
    }


def _validation(result: Any) -> Any:
    return round(result.miou, 2), result.metrics.get('mBIoU')


def _scores(result: Any) -> dict[str, Any]:
    names = [name for name in result.class_scores if not name.startswith(TRIMAP)]
    by_class = {f'{name}: {each}': value for name in names for each, value in result.class_scores[name].items()}
    return {**result.metrics, **by_class}


def _last(values: Any) -> Any:
    """The mean of the values logged in the last part of a training run, None without values."""
    end = max(values, default=0)
    return fmean(value for at, value in values.items() if at > (1 - LAST) * end) if values else None


def read_row(row: Any, folder: str) -> Training:
    """The training recorded in a row, with its scores and costs."""
    values = {name: _number(text) for name, text in row.items() if name not in ABOUT and row['state'] == FINISHED}
    values = {name: value for name, value in values.items() if value is not None}
    return Training(row['title'], int(row['seed']), row['state'], folder, values)


def fingerprint(cfg: Any) -> str:
    """Identify a config by its training settings, regardless of its seed and the location of its data.

    Fused losses, for example, make another fingerprint, since a record contains times and memory.
    """
    return hashlib.sha256(json.dumps(training_settings(cfg), sort_keys=True).encode()).hexdigest()[:12]


@cache
def provenance() -> dict[str, Any]:
    """Commit of this project, device, and versions of Python and packages."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu()
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    return dict(commit=_commit(), device=device, python=platform.python_version(), **versions)


def _commit() -> str:
    """The commit, with '-dirty' if files other than CSV records differ from it; empty outside this repository."""
    top = _git('rev-parse', '--show-toplevel')
    if not top or Path(top).resolve() != ROOT:
        return ''
    commit = _git('rev-parse', '--short=12', 'HEAD')
    changed = _git('status', '--porcelain', '--untracked-files=no', '--', ':/', ':(exclude,top)*.csv')
    return f'{commit}-dirty' if commit and changed else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(['git', *arguments], capture_output=True, text=True, cwd=ROOT)
    except OSError:
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''


def _cpu() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ''


def _key(row: Any) -> Any:
    return tuple(str(row[name]) for name in KEY)


def _text(value: Any) -> str:
    return '' if value is None else f'{value:.6g}' if isinstance(value, float) else str(value)


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return None
