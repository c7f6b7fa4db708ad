"""Shows the progress of a training run on the console, with its log in a file."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..datasets.checked_pipeline import BadSampleError
from .errors import UserError, describe
from .runner import build_runner

PACKAGE = Path(__file__).parents[1]
LINES_SHOWN = 20  # of the log, after an error
LINE_INTERVAL_S = 60  # where the console is not a terminal
LOSS_WINDOW = 10  # iterations


def train_with_progress(cfg: Config, remarks: Sequence[str] = ()) -> None:
    """Train a config with its progress on the console, and all other output in ``train.log`` in its work dir.

    The console shows this package's warnings, too.

    Args:
        remarks: Warnings for the start of the log, one line each; also shown on the console.

    Raises:
        UserError: Any error that stops the training, after the last lines of the log were shown.
        BadSampleError, OSError: A file that cannot be used or written.
    """
    warnings = OwnWarnings(sys.stderr)
    with output_to(Path(cfg.work_dir) / 'train.log') as console:
        for remark in remarks:
            print(remark, file=console, flush=True)
        runner = build_runner(cfg, remarks)
        runner.logger.addHandler(warnings)
        progress = ProgressHook(console)
        if runner.rank == 0:
            runner.register_hook(progress)
        try:
            runner.train()
        finally:
            progress.close()
            runner.logger.removeHandler(warnings)


@contextmanager
def output_to(path: Path) -> Iterator[TextIO]:
    """Append the output of this process to a file.

    Yields:
        The console, for output that should be visible.

    Raises:
        UserError: In place of any other exception, after the last lines of the file were shown.
    """
    console = sys.stdout
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a', buffering=1, encoding='utf-8') as file:
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield console
        except (UserError, BadSampleError, OSError):
            raise
        except Exception as error:
            file.write(traceback.format_exc())
            lines = path.read_text('utf-8', errors='replace').splitlines()
            print(*lines[-LINES_SHOWN:], f'The complete log is in {path}.', sep='\n', file=sys.stderr)
            raise UserError(describe(error)) from error


class OwnWarnings(logging.Handler):
    """Shows the warnings that this package logs, each once.

    Args:
        stream: Output stream.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.WARNING)
        self._stream = stream
        self._shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if PACKAGE in Path(record.pathname).parents and message not in self._shown:
            self._shown.add(message)
            print(f'Warning: {message}', file=self._stream, flush=True)


class ProgressHook(Hook):
    """Shows progress, loss and remaining time of a training run: a bar in a terminal, else one line per minute.

    Args:
        console: Output stream.
    """

    priority = 'VERY_LOW'

    def __init__(self, console: TextIO) -> None:
        self._console = Console(file=console)
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn('loss {task.fields[loss]}'),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def before_train(self, runner: Runner) -> None:
        self._task = self._bar.add_task('training', total=runner.max_iters, completed=runner.iter, loss='-')
        self._start = runner.iter
        self._start_s = self._shown_s = time.monotonic()
        self._bar.start()

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        done = runner.iter + 1
        loss = f'{runner.message_hub.get_scalar("train/loss").mean(LOSS_WINDOW):.3f}'
        self._bar.update(self._task, completed=done, loss=loss)
        now_s = time.monotonic()
        if self._bar.disable and (now_s - self._shown_s >= LINE_INTERVAL_S or done == runner.max_iters):
            self._shown_s = now_s
            left_s = (now_s - self._start_s) / (done - self._start) * (runner.max_iters - done)
            left = timedelta(seconds=round(left_s))
            self._console.print(f'training {done}/{runner.max_iters}, loss {loss}, {left} left', highlight=False)

    def before_val(self, runner: Runner) -> None:
        self._bar.update(self._task, description='validation')

    def after_val(self, runner: Runner) -> None:
        self._bar.update(self._task, description='training')

    def close(self) -> None:
        self._bar.stop()
