"""Starting and resuming training runs, one or several at a time, each in its own processes and folder."""

from __future__ import annotations

import json
import os
import os.path as osp
import re
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, TextIO

import torch
from mmengine.config import Config

from ..cli.errors import UserError
from ..cli.resume import find_newest_checkpoint
from ..cli.running import require_writable
from .experiments import differences, plain
from .files import try_lock, write_atomically
from .work_dirs import CONFIG_LOCK, read_runs

# Settings that may change between two starts, since they do not affect results.
FREE = {'work_dir', 'launcher', 'resume', 'experiment_name', 'visualizer', 'vis_backends'}
FREE |= {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'}
# Last line on stderr of a failed process: our own error, or that of a traceback, with its rank under torchrun.
REASON = re.compile(r'(?:\[rank\d+\]: *)?(?:Error: (.+)|((?:\w+\.)*\w+(?:Error|Exception|Interrupt)\b.*))')
LINES_KEPT = 1000
FIRST_PORT = 29500  # that of tools/dist_run.sh


class Launcher:
    """Starts trainings.

    Args:
        tools: Folder with ``train.py``, ``test.py`` and the scripts that start them on several GPUs.
        num_gpus: Number of GPUs of each training run.
        lock: A locked file, which the training runs inherit.
        jobs: Number of runs side by side in :meth:`train_all`. Each has its own GPUs or, on a CPU, its share of
            the cores, unless ``OMP_NUM_THREADS`` is set.

    Raises:
        UserError: There are fewer GPUs than ``jobs`` training runs need.
    """

    def __init__(self, tools: Path, num_gpus: int, lock: TextIO, jobs: int = 1) -> None:
        self._tools = tools
        self._num_gpus = num_gpus
        self._lock = lock
        self._places: SimpleQueue[dict[str, str]] = SimpleQueue()
        for place in _places(jobs, num_gpus):
            self._places.put(place)
        self._jobs = jobs
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._guard = Lock()  # of the last two

    def train_all(self, trainings: list[tuple[Config, Path]], on_end: Callable[[int, str | None], None]) -> None:
        """Start or resume several training runs, ``jobs`` at a time.

        Args:
            trainings: Config and work dir of each.
            on_end: Called in the caller's thread when a training ends, with its index and the result of :meth:`train`.
        """
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                futures = {pool.submit(self.train, *training): index for index, training in enumerate(trainings)}
                for future in as_completed(futures):
                    on_end(futures[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise

    def train(self, cfg: Config, folder: Path) -> str | None:
        """Start or resume a training run.

        Args:
            cfg: Its config, which is written to the folder.
            folder: Its work dir.

        Returns:
            None if the training is finished or has diverged, else the reason in one line.
        """
        folder.mkdir(exist_ok=True)
        config = folder / osp.basename(cfg.filename)
        with CONFIG_LOCK:
            try:
                cfg.dump(config)
            except SyntaxError as error:  # MMEngine turns Ctrl-C into this one here
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise error.__context__ from None
                raise
        place = self._places.get()
        try:
            fault = self._launch('train', [config], ['--progress', '--resume', '--work-dir', folder], place)
            if fault is None and not has_ended(folder):
                # Interrupted in its last validation, which follows the last checkpoint and cannot be resumed.
                checkpoint, _ = find_newest_checkpoint(str(folder))
                if checkpoint is not None:
                    fault = self._launch('test', [config, checkpoint], ['--work-dir', folder], place)
        except BaseException:
            self._stopped = True  # before the next training starts in this place
            raise
        finally:
            self._places.put(place)
        return None if has_ended(folder) else fault or 'it ended without a result'

    def _launch(
        self, tool: str, files: list[str | Path], options: list[str | Path], place: dict[str, str]
    ) -> str | None:
        """Run a tool in its own process, or one per GPU, and return why it failed, None if it succeeded."""
        if self._num_gpus == 1:
            command = [sys.executable, self._tools / f'{tool}.py', *files, *options]
        else:
            command = ['bash', self._tools / f'dist_{tool}.sh', *files, str(self._num_gpus), *options]
        # dist_run.sh starts the first python on the path.
        path = os.pathsep.join([osp.dirname(sys.executable), os.environ.get('PATH', '')])
        with self._guard:
            if self._stopped:
                return 'stopped'
            started = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **place, 'PATH': path},
                # If this process is killed, the training left behind keeps the lock.
                pass_fds=[self._lock.fileno()],
                # Logs are in the work dir. The progress of several training runs would not fit into one terminal.
                stdout=None if tool == 'train' and self._jobs == 1 else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors='replace',
            )
            self._processes.add(started)
        with started as process:
            lines: deque[str] = deque(maxlen=LINES_KEPT)
            assert process.stderr is not None, 'it is a pipe'
            try:
                for line in process.stderr:
                    print(line, end='', file=sys.stderr, flush=True)
                    lines.append(line)
                status = process.wait()
            except KeyboardInterrupt:
                process.terminate()  # not kill(), so that torchrun can end its own processes
                process.wait()
                raise
            finally:
                self._processes.discard(started)
        return None if status == 0 else _reason(lines, status)

    def _stop(self) -> None:
        """Stop all training runs, and start no more."""
        with self._guard:
            self._stopped = True
            for process in self._processes:
                process.terminate()


def _places(jobs: int, num_gpus: int) -> list[dict[str, str]]:
    """Environment variables that assign GPUs or CPU threads to each of several jobs."""
    if jobs == 1:
        return [{}]
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is None:
        gpus = [str(index) for index in range(torch.cuda.device_count())]
    else:
        gpus = [gpu for gpu in visible.split(',') if gpu]
    if not gpus:
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        return [{'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', str(threads))}] * jobs
    if len(gpus) < jobs * num_gpus:
        raise UserError(
            f'--jobs {jobs} with {num_gpus} GPUs each need {jobs * num_gpus} GPUs, but there are {len(gpus)}.'
        )
    port = int(os.environ.get('PORT', FIRST_PORT))
    return [
        {'CUDA_VISIBLE_DEVICES': ','.join(gpus[job * num_gpus : (job + 1) * num_gpus]), 'PORT': str(port + job)}
        for job in range(jobs)
    ]


def _reason(lines: Iterable[str], status: int) -> str:
    """Find in one line why a process failed, from its stderr and exit status."""
    found = [match for match in map(REASON.fullmatch, map(str.strip, lines)) if match]
    # A line for the user takes precedence over torchrun's own error, which follows it.
    own = [match[1] for match in found if match[1]]
    raised = [match[2] for match in found if match[2] and 'ChildFailedError' not in match[2]]
    if own or raised:
        return (own or raised)[-1]
    return f'it was ended by {signal.Signals(-status).name}' if status < 0 else f'it ended with status {status}'


def has_ended(folder: Path) -> bool:
    """Whether the training in a folder is finished or diverged."""
    runs = read_runs(folder)
    return bool(runs) and runs[-1].has_ended


@contextmanager
def stoppable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C: stop all training runs, and explain how to resume.

    Raises:
        UserError: The training runs were stopped.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        raise UserError('Stopped. Run the same command again to resume from the latest checkpoint.') from error


@contextmanager
def claim(work_dir: Path, cfg: Config, num_gpus: int) -> Iterator[TextIO]:
    """Reserve a work dir for one comparison, and lock it.

    Args:
        work_dir: The folder, created if it does not exist. ``comparison.json`` in it records what it is reserved for.
        cfg: What all training runs share.
        num_gpus: Number of GPUs of each training run.

    Yields:
        The locked file. A process that inherits it keeps the lock.

    Raises:
        UserError: The folder cannot be written, is in use, or contains training runs of another config or with another
            number of GPUs, or ``num_gpus`` is less than 1.
    """
    if num_gpus < 1:
        raise UserError(f'--gpus, the number of GPUs of each training run, must be at least 1, but got {num_gpus}.')
    record, lock = work_dir / 'comparison.json', work_dir / 'comparison.lock'
    asked = json.loads(json.dumps({'config': plain(cfg.to_dict(), FREE), 'gpus': num_gpus}))
    if not record.exists() and any(work_dir.glob('*_seed_*')):
        raise UserError(
            f"'{work_dir}' contains training runs, but no {record.name} that describes them. Use another --work-dir."
        )
    require_writable(str(work_dir), '--work-dir')
    with lock.open('a') as file:
        if not try_lock(file):
            raise UserError(
                f"Another comparison, or a training run that it left behind, is running in '{work_dir}'. "
                f"Wait until it ends, or stop it ('fuser {lock}' lists its processes)."
            )
        if not record.exists():
            write_atomically(record, json.dumps(asked, indent=1))
        found = list(differences(_read_record(record), asked))
        if found:
            raise UserError(
                f"'{work_dir}' contains a comparison of another config or with other options "
                f'(then, now: {"; ".join(found[:3])}{"; ..." if found[3:] else ""}). Choose another --work-dir.'
            )
        yield file


def _read_record(record: Path) -> Any:
    try:
        return json.loads(record.read_text())
    except ValueError as error:
        raise UserError(f"'{record}' is damaged ({error}). Choose another --work-dir.") from error
