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


def python(code, folder, *options, **environment):
    command = [sys.executable, *options, '-c', code]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == 0, result.stderr
    return result.stdout.split()  # onedl-mmsegmentation prints something, too, when it is imported


OPS = ROOT / 'mmseg_cpg' / 'ops'


@pytest.mark.parametrize('path', sorted(OPS.rglob('*.py')), ids=lambda path: str(path.relative_to(OPS)))
def test_ops_import_torch_and_numpy_only(path):
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.split('.')[0])
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= len(path.relative_to(OPS).parts), 'ops import from ops alone'
    # Needed by what is in these files alone, and imported when that is called.
    own = {
        'boundary_distance.py': {'cv2'},
        'triton_kernels.py': {'triton'},
        'implementations.py': {'triton'},
    }.get(path.name, set())
    assert modules <= {'torch', 'numpy', *own, *sys.stdlib_module_names}


def test_ops_work_without_mmseg():
    assert python(WITHOUT_MMSEG, ROOT) == ['True']


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what the package is built from, so that building leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp('source')
    ignore = shutil.ignore_patterns('__pycache__')
    for name in ('mmseg_cpg', 'configs', 'tools'):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE', 'model-index.yml'):
        shutil.copy(ROOT / name, folder)
    return folder


def build(kind, source, folder):
    """Build a distribution of the source in a folder, as pip does, and return its path."""
    code = f'from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})'
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=source, check=True, capture_output=True)
    (path,) = folder.glob('mmseg_cpg-*')
    return path


def install(wheel, target):
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'install', '--no-deps', '--target', target, wheel], check=True)


@pytest.fixture(scope='module')
def installed(source, tmp_path_factory):
    """The folder in which the package lies after its wheel was installed."""
    folder = tmp_path_factory.mktemp('installed')
    wheel = build('wheel', source, folder)
    install(wheel, folder / 'target')
    return folder / 'target'


def test_wheel_works_from_another_folder(installed, tmp_path):
    *_, version, path, same, name = python(FROM_ANOTHER_FOLDER, tmp_path, PYTHONPATH=str(installed))
    assert (installed / f'mmseg_cpg-{version}.dist-info').is_dir()
    assert path == str(installed / 'mmseg_cpg' / '__init__.py')
    assert (same, name) == ('True', 'CPGLoss')


def files(folder, *suffixes):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob('*')
        if path.suffix in suffixes and '.mim' not in path.relative_to(folder).parts
    }


def test_wheel_holds_all_code_and_configs_and_the_tools_that_work_without_the_repository(installed):
    package = installed / 'mmseg_cpg'
    assert files(package, '.py') == files(ROOT / 'mmseg_cpg', '.py')
    assert files(package / '.mim' / 'configs', '.py', '.yaml') == files(ROOT / 'configs', '.py', '.yaml')
    assert files(package / '.mim' / 'tools', '.py') == files(ROOT / 'tools', '.py') - {'evidence.py'}
    for name in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        assert os.access(package / '.mim' / 'tools' / name, os.X_OK)
    assert not any(path.is_symlink() for path in package.rglob('*'))


def test_source_distribution_builds_the_same_wheel(source, installed, tmp_path):
    sdist = build('sdist', source, tmp_path)
    shutil.unpack_archive(sdist, tmp_path / 'unpacked')
    (unpacked,) = (tmp_path / 'unpacked').iterdir()
    (tmp_path / 'built').mkdir()
    wheel = build('wheel', unpacked, tmp_path / 'built')
    shutil.unpack_archive(wheel, tmp_path / 'wheel', 'zip')
    suffixes = ('.py', '.yaml', '.yml', '.sh')
    assert {*(tmp_path / 'wheel').rglob('*.yml')}
    for folder in ('mmseg_cpg', 'mmseg_cpg/.mim'):
        assert files(tmp_path / 'wheel' / folder, *suffixes) == files(installed / folder, *suffixes)


# Run with -S: the folder becomes the first of the site-packages folders. So its .pth files, by which editable installs
# are found, are read, and before those of another install of this package.
INHERIT = """
import site
site.addsitedir({target!r})
site.main()
import mmseg_cpg
from mmengine.config import Config
from mmengine.hub import get_config
inherited = Config.fromfile('mine.py')
print(inherited.model.decode_head[-1].loss_decode[-1].loss_weight)
print(inherited.model.decode_head[0].num_classes)
named = get_config('mmseg_cpg::cpg/ocrnet_hr48_cocostuff_cpg7.py')
print(named.auto_scale_lr.base_batch_size, named.filename)
"""
MINE = """
_base_ = 'mmseg_cpg::cpg/ocrnet_hr48_cocostuff_cpg7.py'
model = _base_.model
model.decode_head[-1].loss_decode[-1].loss_weight = 3.0
"""


def inherit(target, folder):
    (folder / 'mine.py').write_text(MINE)
    *_, weight, classes, batch, filename = python(INHERIT.format(target=str(target)), folder, '-S', PYTHONPATH='')
    assert (weight, classes, batch) == ('3.0', '171', '16')
    return Path(filename)


def test_installed_configs_are_inherited(installed, tmp_path):
    filename = inherit(installed, tmp_path)
    assert filename == installed / 'mmseg_cpg' / '.mim' / 'configs' / 'cpg' / 'ocrnet_hr48_cocostuff_cpg7.py'


def test_configs_of_an_editable_install_are_inherited(source, tmp_path):
    wheel = build('editable', source, tmp_path)
    install(wheel, tmp_path / 'target')
    filename = inherit(tmp_path / 'target', tmp_path)
    assert filename.resolve() == source / 'configs' / 'cpg' / 'ocrnet_hr48_cocostuff_cpg7.py'


@pytest.mark.skipif(not (ROOT / '.gitignore').exists(), reason='only in a checkout')
@pytest.mark.parametrize('name', ['data', 'work_dirs'])
def test_git_ignores_links_to_folders_on_another_disk(name, tmp_path):
    (tmp_path / '.gitignore').write_bytes((ROOT / '.gitignore').read_bytes())
    (tmp_path / name).symlink_to(tmp_path / 'elsewhere')
    subprocess.run(['git', 'init', '-q'], cwd=tmp_path, check=True)
    assert name not in subprocess.check_output(['git', 'status', '--porcelain'], cwd=tmp_path, text=True)
