import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / 'benchmarks'

# Without a GPU, Triton's kernels run through its interpreter. It must be said before triton is imported.
if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a script of the folder by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if str(getattr(module, '__file__', None)).startswith(f'{BENCHMARKS}{os.sep}'):
            del sys.modules[name]
