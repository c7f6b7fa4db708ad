"""Trainings that a tool starts one after the other, each in processes and a folder of its own, and resumes."""

import fcntl
import json
import os
import os.path as osp
import re
import signal
import subprocess
import sys
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from mmengine.runner import find_latest_checkpoint

from ..cli.errors import UserError
from .experiments import differences, plain
from .work_dirs import FINISHED, read_runs

# Settings that may change between two starts, since they change no result.
FREE = {'work_dir', 'launcher', 'resume', 'experiment_name', 'visualizer', 'vis_backends'}
FREE |= {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'}
# How a process that fails ends on stderr: our own line, or the last one of a traceback, under torchrun with its rank.
REASON = re.compile(r'(?:\[rank\d+\]: *)?(?:Error: (.+)|((?:\w+\.)*\w+(?:Error|Exception|Interrupt)\b.*))')
LINES_KEPT = 1000


class Launcher(NamedTuple):
    """Starts trainings.

    Args:
        tools (Path): The folder with ``train.py``, ``test.py`` and the scripts that start them on several GPUs.
        num_gpus (int): Number of GPUs that each training takes.
        lock (TextIO): A locked file; who inherits it holds the lock as well.
    """

    tools: Path
    num_gpus: int
    lock: TextIO

    def train(self, cfg, folder):
        """Start or resume a training.

        Args:
            cfg (Config): Its config, which is written to the folder.
            folder (Path): Its work dir.

        Returns:
            str | None: Why it is not finished then, in one line; None if it is.
        """
        folder.mkdir(exist_ok=True)
        config = folder / osp.basename(cfg.filename)
        try:
            cfg.dump(config)
        except SyntaxError as error:  # what MMEngine makes of a Ctrl-C that meets it here
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
        resume = ['--resume'] if (folder / 'last_checkpoint').exists() else []
        fault = self._launch('train', [config], [*resume, '--work-dir', folder])
        if fault is None and not is_finished(folder):
            # It was interrupted in its last validation, which comes after the last checkpoint and is not resumed.
            checkpoint = find_latest_checkpoint(folder)
            if checkpoint is not None:
                fault = self._launch('test', [config, checkpoint], ['--work-dir', folder])
        return None if is_finished(folder) else fault or 'it ended without a result'

    def _launch(self, tool, files, options):
        """Run a tool in a process of its own, or in one per GPU, and return why it failed, None if it did not."""
        if self.num_gpus == 1:
            command = [sys.executable, self.tools / f'{tool}.py', *files, *options]
        else:
            command = ['bash', self.tools / f'dist_{tool}.sh', *files, self.num_gpus, *options]
        # dist_run.sh starts the first python on the path.
        path = os.pathsep.join([osp.dirname(sys.executable), os.environ.get('PATH', '')])
        with subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, 'PATH': path},
            # Should this process be killed, the one that it leaves behind still holds the lock.
            pass_fds=[self.lock.fileno()],
            stderr=subprocess.PIPE,
            text=True,
            errors='replace',
        ) as process:
            lines = deque(maxlen=LINES_KEPT)
            try:
                for line in process.stderr:
                    print(line, end='', file=sys.stderr, flush=True)
                    lines.append(line)
                status = process.wait()
            except KeyboardInterrupt:
                process.terminate()  # torchrun then ends its own processes, which it cannot if it is killed
                process.wait()
                raise
        return None if status == 0 else _reason(lines, status)


def _reason(lines, status):
    """Say in one line why a process failed, by what it wrote to stderr and its exit status."""
    found = [match for match in map(REASON.fullmatch, map(str.strip, lines)) if match]
    # The line that is meant for the user counts more than torchrun's own error, which comes after it.
    own = [match[1] for match in found if match[1]]
    raised = [match[2] for match in found if match[2] and 'ChildFailedError' not in match[2]]
    if own or raised:
        return (own or raised)[-1]
    return f'it was ended by {signal.Signals(-status).name}' if status < 0 else f'it ended with status {status}'


def is_finished(folder):
    """Whether the training in a folder has a result of its end."""
    runs = read_runs(folder)
    return bool(runs) and runs[-1].state == FINISHED


@contextmanager
def stoppable():
    """Let SIGTERM stop trainings as Ctrl-C does, which ends the one that runs, and say of both how to go on.

    Raises:
        UserError: If they are stopped.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        raise UserError('Stopped. The same command goes on from the latest checkpoint.') from error


@contextmanager
def claim(work_dir, purpose, trainings, cfg, num_gpus):
    """Make a work dir that of a purpose, or check that it is of the same one, and keep others out of it.

    Args:
        work_dir (Path): The folder, made if need be.
        purpose (str): What the trainings are for, e.g. 'sweep'; ``sweep.json`` in the folder then says what of.
        trainings (str): Pattern of the trainings' folders, e.g. 'lambda_*'.
        cfg (Config): What all trainings share.
        num_gpus (int): Number of GPUs that each of them takes.

    Yields:
        TextIO: A locked file. A process that inherits it holds the lock as well.

    Raises:
        UserError: If it is in use, or holds trainings of another config, or on another number of GPUs, or that number
            is none.
    """
    if num_gpus < 1:
        raise UserError(f'--gpus is the number of GPUs of a training, at least 1, but got {num_gpus}.')
    record = work_dir / f'{purpose}.json'
    asked = json.loads(json.dumps({'config': plain(cfg.to_dict(), FREE), 'gpus': num_gpus}))
    if not record.exists() and any(work_dir.glob(trainings)):
        raise UserError(
            f"'{work_dir}' holds trainings, but no {record.name} that says of what. Choose another --work-dir."
        )
    work_dir.mkdir(parents=True, exist_ok=True)
    with record.open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"A {purpose}, or a training that it left behind, is running in '{work_dir}': wait for its end, or "
                f"stop it ('fuser {record}' lists its processes)."
            ) from error
        except OSError:
            pass  # some file systems of clusters have no locks
        file.seek(0)
        earlier = file.read()
        found = list(differences(json.loads(earlier), asked)) if earlier else []
        if found:
            raise UserError(
                f"'{work_dir}' holds a {purpose} of another config or with other options "
                f'(then, now: {"; ".join(found[:3])}{"; ..." if found[3:] else ""}). Choose another --work-dir.'
            )
        if not earlier:
            file.write(json.dumps(asked, indent=1))
            file.flush()
        yield file
