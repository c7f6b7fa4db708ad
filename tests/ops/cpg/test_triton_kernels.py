"""Every kernel compiles for the GPUs that people train on, which takes no GPU, and needs what was published."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / 'benchmarks' / 'benchmark_triton_kernels.py'


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What the script writes now, where kernels are compiled instead of interpreted, and what it wrote."""
    out = tmp_path_factory.mktemp('kernels') / 'result.json'
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment['PYTHONPATH'] = str(ROOT)
    subprocess.run([sys.executable, SCRIPT, '--out', out], env=environment, check=True, capture_output=True)
    return json.loads(out.read_text()), json.loads(SCRIPT.with_suffix('.json').read_text())


def test_all_kernels_compile_and_fit(results):
    now, _ = results
    assert {row['kernel'] for row in now['rows']} == {
        'scan_label_kernel',
        'softmax_kernel',
        'error_kernel',
        'class_gradient_kernel',
        'gradient_kernel',
    }
    for row in now['rows']:
        assert row['shared_bytes'] <= 48 * 1024, row
        assert row['programs_per_processor'] >= 2, row


def test_resources_are_those_published(results):
    now, published = results
    if triton.__version__ != published['triton']:
        pytest.skip(f'published for triton {published["triton"]}')
    assert now == published
