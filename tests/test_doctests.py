"""The examples in docstrings do what they show."""

import doctest
import importlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEED_TRITON = {'mmseg_cpg.ops.cpg.triton_kernels', 'mmseg_cpg.ops.cpg.triton_autograd'}
MODULES = [
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    for path in sorted((ROOT / 'mmseg_cpg').rglob('*.py'))
    if '.mim' not in path.parts and '>>> ' in path.read_text(encoding='utf-8')
]


def test_there_are_examples():
    assert 'mmseg_cpg.ops.cpg.loss' in MODULES


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    if name in NEED_TRITON and importlib.util.find_spec('triton') is None:
        pytest.skip('needs triton')
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
