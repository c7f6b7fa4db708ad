"""Every kernel compiles for the GPUs that people train on, which takes no GPU, and needs what was published."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton

from benchmarks.common import RESULTS
from mmseg_cpg import __version__

ROOT = Path(__file__).parents[3]
PUBLISHED = RESULTS / __version__ / 'triton_kernels.csv'


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """The rows that the script writes now, where kernels are compiled, not interpreted, and the published ones."""
    out = tmp_path_factory.mktemp('kernels') / 'result.csv'
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    environment['PYTHONPATH'] = str(ROOT)
    command = [sys.executable, '-m', 'benchmarks.triton_kernels', '--out', out]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return read_rows(out), read_rows(PUBLISHED)


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_all_kernels_compile_and_fit(results):
    now, _ = results
    assert {row['kernel'] for row in now} == {
        'scan_label_kernel',
        'softmax_kernel',
        'error_kernel',
        'class_gradient_kernel',
        'gradient_kernel',
    }
    for row in now:
        assert int(row['shared_bytes']) <= 48 * 1024, row
        assert int(row['programs_per_processor']) >= 2, row


def test_resources_are_those_published(results):
    now, published = results
    if triton.__version__ != published[0]['triton']:
        pytest.skip(f'published for triton {published[0]["triton"]}')
    assert now == published
