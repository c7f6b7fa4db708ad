"""Run all checks and benchmarks that need a GPU, in about 20 minutes.

    python benchmarks/run_on_gpu.py FOLDER                  all steps; JSON files and logs go to FOLDER
    python benchmarks/run_on_gpu.py FOLDER --steps cpg_loss boundary_exactness          some steps

Needs torch, triton, numpy, pytest and hypothesis; nothing is installed. Steps that need MMSegmentation are skipped
without it. A step that fails or times out does not stop the others, but the exit status is then 1.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Step:
    """Arguments for Python, the time limit, and additional arguments without MMSegmentation.

    If the latter are None, the step is skipped without MMSegmentation.
    """

    command: list[str]
    limit_s: float
    without_mmseg: list[str] | None
    writes: bool = False


def pytest(*arguments):
    return ['-m', 'pytest', '-p', 'no:cacheprovider', '-rs', *arguments]


def in_parallel():
    """Options that run tests in parallel, since compiling kernels for the many cases of the oracle is slow."""
    return ['-n', '4'] if importlib.util.find_spec('xdist') else []


def benchmark(name):
    return ['-m', f'benchmarks.{name}']


# Correctness comes first. Most tests cannot be collected without MMSegmentation.
STEPS = {
    'gpu_tests': Step(pytest('-m', 'gpu'), 300, without_mmseg=['tests/ops/cpg/test_loss_gpu.py']),
    'oracle_tests': Step(
        pytest('tests/ops/cpg/test_loss.py', 'tests/ops/cpg/test_fused_triton.py', *in_parallel()),
        240,
        without_mmseg=[],
    ),
    'boundary_exactness': Step(benchmark('boundary_exactness'), 60, without_mmseg=[], writes=True),
    'cpg_loss': Step(benchmark('cpg_loss'), 270, without_mmseg=[], writes=True),
    'cross_entropy_cpg': Step(benchmark('cross_entropy_cpg_on_gpu'), 150, without_mmseg=[], writes=True),
    'training_step': Step(benchmark('training_step'), 480, without_mmseg=None, writes=True),
}
QUICK = {
    'cpg_loss': ['--quick', '--repeats=4'],
    'cross_entropy_cpg': ['--quick', '--repeats=4'],
    'training_step': ['--quick', '--rounds=4'],
}


def run(name, folder, device, quick):
    """Run a step with its output on the screen and in a log, and describe how it ended."""
    step = STEPS[name]
    command = [sys.executable, *step.command]
    if importlib.util.find_spec('mmseg') is None:
        if step.without_mmseg is None:
            return 'skipped, since mmsegmentation is not installed'
        command += step.without_mmseg
    if step.writes:
        command += ['--device', device, '--out', str(folder / f'{name}.json')]
        command += QUICK.get(name, []) if quick else []
    elif quick:
        command.append('--collect-only')
    paths = [str(ROOT), os.environ.get('PYTHONPATH')]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'PYTHONUNBUFFERED': '1'}
    start = time.monotonic()
    with (folder / f'{name}.log').open('w') as log:
        try:
            status = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=step.limit_s
            ).returncode
        except subprocess.TimeoutExpired:
            return f'stopped after {step.limit_s} s'
    took = f'{time.monotonic() - start:.0f} s'
    return f'done, {took}' if status == 0 else f'failed with exit status {status}, {took}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder for the JSON files and a log of each step')
    parser.add_argument('--steps', nargs='+', choices=STEPS, default=list(STEPS), help='default: all, in this order')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--quick', action='store_true', help='smoke test: tiny inputs, tests are only collected')
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ended = {}
    for name in args.steps:
        print(f'--- {name}', flush=True)
        ended[name] = run(name, folder, args.device, args.quick)
        if (folder / f'{name}.log').exists():
            print(''.join((folder / f'{name}.log').read_text().splitlines(keepends=True)[-40:]))
    print('\n'.join(f'{name:>18}: {how}' for name, how in ended.items()), f'logs and JSON: {folder}', sep='\n')
    if any(not how.startswith(('done', 'skipped')) for how in ended.values()):
        raise SystemExit(1)


if __name__ == '__main__':
    main()
