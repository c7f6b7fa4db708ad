"""The set-up script in folders whose names a shell could execute or take apart, with a pip that only notes calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUBS = ['cv2.py', 'mmcv/__init__.py', 'mmcv/ops.py', 'mmseg/__init__.py', 'mmseg/models.py', 'mmseg_cpg.py']
PIP = "import os, sys\nopen(os.environ['CALLS'], 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"


@pytest.fixture
def set_up(tmp_path):
    """Set up a copy of the project in a folder of this name, and return what pip was called with."""
    modules = tmp_path / 'modules'
    for name, text in {**dict.fromkeys(STUBS, ''), 'pip/__init__.py': '', 'pip/__main__.py': PIP}.items():
        path = modules / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(folder, python):
        tools = tmp_path / folder / 'tools'
        if not tools.exists():
            tools.mkdir(parents=True)
            for name in ('tools/setup_env.sh', 'setup.cfg', 'requirements'):
                (tmp_path / folder / name).symlink_to(ROOT / name)
            (tools / 'setup_env.sh').unlink()
            (tools / 'setup_env.sh').write_bytes((ROOT / 'tools' / 'setup_env.sh').read_bytes())
        calls = tmp_path / 'calls'
        calls.unlink(missing_ok=True)
        done = subprocess.run(
            ['bash', tools / 'setup_env.sh', 'demo'],
            env={**os.environ, 'PYTHON': str(python), 'PYTHONPATH': str(modules), 'CALLS': str(calls)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [call.split(' -r ')[-1].split(' --no-deps ')[-1] for call in lines]

    return run


@pytest.mark.parametrize('folder', ['$(touch hacked) `touch hacked`', """it's a "test"; touch hacked * ~"""])
def test_folders_are_taken_literally(set_up, tmp_path, folder):
    python = tmp_path / 'my python' / 'python3'
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    stack = 'onedl' if sys.version_info[:2] == (3, 13) else ''
    files = [f'requirements/{name}.txt' for name in ('build', f'stack-{stack}'.removesuffix('-'), 'demo')]
    assert set_up(folder, python) == [*files, '-e .']
    assert set_up(folder, python) == []
    assert (tmp_path / folder / '.venv' / 'bin' / 'python').exists()
    assert not [path for path in tmp_path.rglob('hacked*') if not path.is_relative_to(tmp_path / folder / '.venv')]
