"""Ctrl-C, SIGTERM and disks end a run with one line, and it can be resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import LocalBackend

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
LONG = ['train_cfg.max_iters=500', 'train_cfg.val_interval=500', 'param_scheduler=[]']


def wait_for(path, process, limit_s=300):
    end = time.monotonic() + limit_s
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def trained_steps(logs):
    rows = [json.loads(line) for log in logs for line in log.open()]
    return [row['step'] for row in rows if 'loss' in row]


@pytest.mark.parametrize(
    ('number', 'send', 'name'),
    [
        # A terminal sends Ctrl-C to the worker processes as well, which are in the same group.
        (signal.SIGINT, os.killpg, 'Ctrl-C'),
        (signal.SIGTERM, os.killpg, 'SIGTERM'),
        (signal.SIGTERM, os.kill, 'SIGTERM'),
    ],
)
def test_an_interruption_is_one_line_and_can_be_resumed(write_config, run_tool, tmp_path, number, send, name):
    config, work_dir = write_config(tmp_path), tmp_path / 'work'
    process = subprocess.Popen(
        [sys.executable, TOOLS / 'train.py', config, '--cfg-options', *LONG, 'train_dataloader.num_workers=1'],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(work_dir / 'iter_2.pth', process)
        send(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, errors
    advice = 'The same command with --resume continues from the newest checkpoint.'
    assert errors == f'Stopped by {name}. {advice}\n'
    # last_checkpoint may not name it yet.
    last = max(int(path.stem.removeprefix('iter_')) for path in work_dir.glob('iter_*.pth'))
    logs = set(work_dir.glob('*/vis_data/scalars.json'))
    options = [f'train_cfg.max_iters={last + 2}', f'train_cfg.val_interval={last + 2}', 'param_scheduler=[]']
    run_tool('train', config, '--resume', '--cfg-options', *options)
    assert trained_steps(set(work_dir.glob('*/vis_data/scalars.json')) - logs) == [last + 1, last + 2]


def test_an_interruption_may_end_in_another_error(write_config, run_tool, tmp_path, monkeypatch, capsys):
    """Where MMEngine formats the config, for each checkpoint, it raises SyntaxError for any exception."""

    def interrupt(cfg):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except KeyboardInterrupt:
            raise SyntaxError('Failed to format the config file') from None

    monkeypatch.setattr(Config, 'pretty_text', property(interrupt))
    with pytest.raises(SystemExit) as leaving:
        run_tool('train', write_config(tmp_path))
    assert leaving.value.code == 128 + signal.SIGINT
    assert 'Stopped by Ctrl-C.' in capsys.readouterr().err


@pytest.mark.parametrize('kibibytes', [1, 4, 64])
def test_a_disk_that_is_full_is_one_line(write_config, tmp_path, kibibytes):
    """A limit on the size of files, which the config, the log or the checkpoint is the first to meet."""
    config = write_config(tmp_path, f'notes = {"x" * 60000!r}\n' if kibibytes == 64 else '')
    command = f'ulimit -f {kibibytes}; exec "$0" "$@"'
    output = subprocess.run(
        ['bash', '-c', command, sys.executable, TOOLS / 'train.py', config],
        capture_output=True,
        text=True,
    )
    assert output.returncode == 1
    assert output.stderr.startswith('Error: ')
    assert 'File too large' in output.stderr
    assert str(tmp_path) in output.stderr
    assert output.stderr.count('\n') == 1


def test_a_disk_that_is_full_for_a_moment_costs_no_checkpoint(
    write_config, run_tool, fails_with, tmp_path, monkeypatch
):
    config, work_dir = write_config(tmp_path), tmp_path / 'work'
    put = LocalBackend.put

    def full_at_3(self, obj, filepath):
        if 'iter_3' in str(filepath):
            Path(filepath).write_bytes(obj[:1000])
            raise OSError(28, 'No space left on device')
        put(self, obj, filepath)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', full_at_3)
        line = fails_with('train', config)
    assert line.startswith(
        f"Error: No space left on device: '{work_dir / 'iter_3.pth'}'. The same command with --resume"
    )
    assert sorted(path.name for path in work_dir.glob('*.pth*')) == ['iter_1.pth', 'iter_2.pth']
    logs = set(work_dir.glob('*/vis_data/scalars.json'))
    run_tool('train', config, '--resume')
    assert trained_steps(set(work_dir.glob('*/vis_data/scalars.json')) - logs) == [3]


@pytest.mark.parametrize(
    ('tool', 'option'),
    [
        ('train', '--work-dir'),
        ('train_edge_network', '--work-dir'),
        ('test', '--work-dir'),
        ('test', '--out'),
        ('test', '--show-dir'),
    ],
)
def test_a_folder_that_is_a_file_is_one_line(write_config, fails_with, tmp_path, tool, option):
    config, file = write_config(tmp_path), tmp_path / 'file'
    file.write_text('precious')
    arguments = [config, *([file] if tool == 'test' else []), option]
    assert f"'{file}' is a file, not a folder. Choose another {option}." in fails_with(tool, *arguments, file)
    below = file / 'below'
    assert f"Cannot write to '{below}' (Not a directory)." in fails_with(tool, *arguments, below)
    assert file.read_text() == 'precious'


def test_a_folder_that_cannot_be_written_is_one_line(write_config, fails_with, tmp_path):
    line = fails_with('train', write_config(tmp_path), '--work-dir', '/proc/work')
    assert line.startswith("Error: Cannot write to '/proc/work' (")
