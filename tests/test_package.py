import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WITHOUT_MMSEG = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmseg', 'mmcv', 'mmengine'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
import torch
from mmseg_cpg.ops import cpg_loss
print(cpg_loss(torch.zeros(1, 2, 4, 4), torch.eye(4, dtype=int)[None]).item() > 0)
"""

FROM_ANOTHER_FOLDER = """
import warnings
warnings.simplefilter('ignore')
import torch, mmseg.models
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
init_default_scope('mmseg')
loss = MODELS.build(dict(type='mmseg_cpg.CPGLoss', loss_weight=1.0))
import mmseg_cpg
print(mmseg_cpg.__version__, mmseg_cpg.__file__)
print(type(MODELS.build(dict(type='CPGLoss'))) is type(loss), type(loss).__name__)
"""


def python(code, folder, **environment):
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=folder, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize('path', sorted((ROOT / 'mmseg_cpg' / 'ops').rglob('*.py')), ids=lambda path: path.name)
def test_ops_import_torch_and_numpy_only(path):
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.split('.')[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, 'ops import from ops alone'
    assert modules <= {'torch', 'numpy', *sys.stdlib_module_names}


def test_ops_work_without_mmseg():
    assert python(WITHOUT_MMSEG, ROOT) == ['True']


def test_wheel_works_from_another_folder(tmp_path):
    source, target, folder = tmp_path / 'source', tmp_path / 'target', tmp_path / 'folder'
    folder.mkdir()
    shutil.copytree(ROOT / 'mmseg_cpg', source / 'mmseg_cpg', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp_path, source], check=True)
    (wheel,) = tmp_path.glob('mmseg_cpg-*.whl')
    subprocess.run([*pip, 'install', '--no-deps', '--target', target, wheel], check=True)
    version, path, same, name = python(FROM_ANOTHER_FOLDER, folder, PYTHONPATH=str(target))
    assert version in wheel.name
    assert path == str(target / 'mmseg_cpg' / '__init__.py')
    assert (same, name) == ('True', 'CPGLoss')
    packaged = {file.relative_to(target).as_posix() for file in (target / 'mmseg_cpg').rglob('*.py')}
    assert packaged == {file.relative_to(ROOT).as_posix() for file in (ROOT / 'mmseg_cpg').rglob('*.py')}
