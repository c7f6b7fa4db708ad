"""compare_losses.py with training runs in processes of their own, which crash, are stopped or outlive it."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMPARE = ['tiny.py', '--work-dir', 'compare', '--losses', 'base', '--seeds', '0']
# Ends the process hard in the second iteration, until a file exists.
CRASH_HOOK = """
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class CrashHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1 and not os.path.exists('fixed'):
            os._exit(9)
"""
CRASHES = """
custom_imports = dict(imports=['crash_hook'])
custom_hooks = [dict(type='CrashHook')]
"""
# Makes a training hang before it builds anything.
HANG = """
import os, sys, time
if sys.argv[0].endswith('train.py'):
    open(f'{os.getpid()}.pid', 'w').close()
    time.sleep(600)
"""


@pytest.fixture
def here(tmp_path, monkeypatch, port):
    """The current folder, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in dict(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PORT=port).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_a_crashed_training_is_resumed(here, write_config, run_tool, fails_with):
    write_config(here, CRASHES)
    (here / 'crash_hook.py').write_text(CRASH_HOOK)
    assert 'CE, seed 0, failed: it ended with status 9' in fails_with('compare_losses', *COMPARE)
    (here / 'fixed').touch()
    run_tool('compare_losses', *COMPARE)
    logs = sorted((here / 'compare' / 'base_seed_0').glob('*/vis_data/scalars.json'))
    rows = [[json.loads(line) for line in log.open()] for log in logs]
    assert [[row['step'] for row in session if 'loss' in row] for session in rows] == [[1], [2, 3]]


@pytest.fixture
def hanging(here, write_config):
    """Start a comparison whose training leaves files named by the ids of its processes, and then hangs."""
    write_config(here, "custom_imports = dict(imports=['hang'])\n")
    (here / 'hang.py').write_text(HANG)

    def start(tools, gpus):
        command = [sys.executable, tools / 'compare_losses.py', *COMPARE, '--gpus', gpus]
        process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(list(here.glob('*.pid'))) == gpus)
        return process, [int(path.stem) for path in here.glob('*.pid')]

    yield start
    for path in here.glob('*.pid'):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.stem), signal.SIGKILL)


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize('gpus', [1, 2])
def test_a_comparison_that_is_terminated_ends_its_training(hanging, tools, fails_with, gpus):
    comparison, trainings = hanging(tools, gpus)
    assert "is running in 'compare'" in fails_with('compare_losses', *COMPARE, '--gpus', gpus)
    comparison.terminate()
    _, errors = comparison.communicate()
    assert comparison.returncode == 1
    assert errors.splitlines()[-1].startswith('Error: Stopped.')
    assert not any(map(is_running, trainings))


def test_a_training_that_outlives_its_comparison_keeps_the_lock(hanging, tools, fails_with):
    comparison, (training,) = hanging(tools, 1)
    comparison.kill()
    comparison.wait()
    assert is_running(training)
    assert "is running in 'compare'" in fails_with('compare_losses', *COMPARE)
    os.kill(training, signal.SIGKILL)
    with Path('compare/comparison.lock').open('a') as lock:
        wait_until(lambda: can_lock(lock))


def can_lock(file):
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
