"""Handles external causes that end a run: bad files, full disks, Ctrl-C and SIGTERM."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mmengine.config import Config

from ..datasets.checked_pipeline import BadSampleError
from .errors import DISK_FULL, UserError

DISK_FAULTS = (*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.EISDIR)
RESUME = 'The same command with --resume continues from the newest checkpoint.'


@contextmanager
def running(cfg: Config, advice: str = '') -> Iterator[None]:
    """Report external causes that end a run in one line.

    Args:
        cfg: The config.
        advice: What to do after an interruption.

    Raises:
        UserError: The work dir or a file in it cannot be written, or a file of a dataset cannot be used.
        SystemExit: The run was interrupted; its status is 128 + the number of the signal, as in a shell.
    """
    require_writable(cfg.work_dir, '--work-dir')
    interruptions: list[int] = []

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        interruptions.append(signal_number)
        # Worker processes may get the signal too, and torch would raise RuntimeError, here or later, for their end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise KeyboardInterrupt

    # A log that cannot be written is not worth a traceback for each line; the next checkpoint will fail as well.
    logged, logging.raiseExceptions = logging.raiseExceptions, False
    # A process that waits for others in a collective operation meets no handler: let SIGTERM end it.
    signals = [signal.SIGINT, signal.SIGTERM] if cfg.launcher == 'none' else [signal.SIGINT]
    earlier = {each: signal.signal(each, interrupt) for each in signals}
    try:
        with disk_faults(cfg.work_dir, advice):
            yield
    except BaseException as error:
        # An interruption may end in another error: MMEngine's SyntaxError where it formats the config for a checkpoint,
        # or that of a pipe which a worker process closed.
        if interruptions or isinstance(error, KeyboardInterrupt):
            signal_number = interruptions[0] if interruptions else signal.SIGINT
            name = 'Ctrl-C' if signal_number == signal.SIGINT else signal.Signals(signal_number).name
            if os.environ.get('LOCAL_RANK', '0') == '0':
                print(f'Stopped by {name}. {advice}'.rstrip(), file=sys.stderr, flush=True)
            sys.exit(128 + signal_number)
        if isinstance(error, BadSampleError):
            # From a worker process the message is a traceback that ends with it.
            line = str(error).strip().splitlines()[-1].partition('BadSampleError: ')[2]
            raise UserError(line or str(error)) from error
        raise
    finally:
        logging.raiseExceptions = logged
        for each, handler in earlier.items():
            signal.signal(each, handler)


@contextmanager
def disk_faults(folder: str | Path, advice: str) -> Iterator[None]:
    """Report a file that cannot be written or read in one line.

    Args:
        folder: The folder to name if the error names no file, as for a full disk.
        advice: What to do afterwards.

    Raises:
        UserError: In place of an OSError of a disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise UserError(f"{error.strerror}: '{error.filename or folder}'. {advice}".rstrip()) from error


def require_writable(folder: str, option: str) -> None:
    """Make a folder if it does not exist; raise :class:`UserError` if no files can be written to it.

    Args:
        folder: The folder.
        option: The option that sets it.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b' ')
    except FileExistsError as error:
        raise UserError(f"'{folder}' is a file, not a folder. Choose another {option}.") from error
    except OSError as error:
        raise UserError(f"Cannot write to '{folder}' ({error.strerror}). Choose another {option}.") from error
