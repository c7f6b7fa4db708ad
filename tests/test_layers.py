"""Imports inside the package run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmseg_cpg'
# From the bottom up: each file may import from its own layer and those above it in this list.
LAYERS = (
    ('version', 'config_nodes', 'mmengine_scope', 'registry'),
    ('ops',),
    ('structures',),
    ('models', 'evaluation'),
    ('datasets', 'visualization'),
    ('engine', 'fuse', 'precompute'),
    ('cli',),
    ('experiments',),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported_parts(path):
    """The top-level parts of the package that a file of it imports, lazily or not."""
    folder = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) - node.level + 1] if node.level else ()
            module = [*start, *(node.module.split('.') if node.module else ())]
            modules = [[*module, alias.name] for alias in node.names]
        else:
            continue
        yield from (parts[1] for parts in modules if parts[0] == 'mmseg_cpg' and len(parts) > 1)


FILES = [path for path in sorted(PACKAGE.rglob('*.py')) if '.mim' not in path.parts and path != PACKAGE / '__init__.py']


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    for imported in imported_parts(path):
        assert imported in LEVEL, f'import {imported} from the part of the package that defines it'
        assert LEVEL[imported] <= LEVEL[part], f'{part} is below {imported}'
        # Parts of one layer are independent of each other.
        assert LEVEL[imported] < LEVEL[part] or imported == part


def test_tools_are_not_imported_by_the_package():
    tools = {path.stem for path in (ROOT / 'tools').rglob('*.py')}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not tools & {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split('.')[0] not in {*tools, 'tools'}


WITHOUT_PLOTTING = """
import sys
import mmseg.datasets, mmseg.models

HEAVY = ('matplotlib', 'scipy')

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in HEAVY:
            raise AssertionError(f'{name} is imported')

for name in [name for name in sys.modules if name.split('.')[0] in HEAVY]:  # MMSegmentation itself imports scipy
    del sys.modules[name]
sys.meta_path.insert(0, Refused())
import mmseg_cpg
print(mmseg_cpg.precompute_boundaries.__name__)
"""


def test_importing_the_package_loads_neither_matplotlib_nor_scipy():
    result = subprocess.run([sys.executable, '-c', WITHOUT_PLOTTING], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == 'precompute_boundaries'
