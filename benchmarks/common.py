"""Shared code of the benchmarks: command line, time and memory of losses, environment, results.

On CUDA the device is kept busy until the host has launched the timed operations, so that times are those of the device,
as in a training step, where the host is ahead. A loss that waits for the device shows it.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from mmseg_cpg import __version__

from .synthetic import street_labels

RESULTS = Path(__file__).with_name('results')
NOT_MEASURED = 'not measured'
# About 5 ms at 2 GHz: more than the host takes to launch a forward and backward.
_HEAD_START_CYCLES = 10_000_000


def make_parser(description):
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, help='result file (default: in results/, named by version and machine)')
    return parser


def run_on_one_core(name, description, measure, markdown, repeats):
    """Run a benchmark on one CPU core, from its command line to its result, and return the result.

    Args:
        name: Name of the benchmark.
        description: Its docstring.
        measure: Returns the result for a number of repeats.
        markdown: Returns the report of a result.
        repeats: Default number of repeats.
    """
    import cv2  # not installed on every GPU machine

    parser = make_parser(description)
    parser.add_argument('--repeats', type=int, default=repeats, help='timed runs of each case (default: %(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    result = {'environment': environment('cpu'), **measure(args.repeats)}
    write_result(result, args.out or result_path(name, 'cpu'), markdown(result))
    return result


def setup(shape, device, **options):
    """Normally distributed logits of a shape, and a synthetic street-scene label."""
    batch, num_classes, height, width = shape
    label = street_labels(batch, num_classes, height, width, **options).to(device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device).requires_grad_(), label


def run(loss, logits):
    """One forward and backward: (forward ms, backward ms), wall time on CPU, between events of the stream on CUDA."""
    logits.grad = None
    mark, elapsed_ms = clock(logits)
    start = mark()
    value = loss(logits)
    middle = mark()
    value.backward()
    end = mark()
    return elapsed_ms(start, middle), elapsed_ms(middle, end)


def clock(tensor=None, now=time.perf_counter):
    """A function that marks a point in time on the device of a tensor, and one that returns the ms between two marks.

    Without a tensor, or on CPU, ``now`` is the clock.
    """
    if tensor is None or not tensor.is_cuda:
        return now, lambda start, end: 1e3 * (end - start)
    torch.cuda.synchronize()
    torch.cuda._sleep(_HEAD_START_CYCLES)
    return _record_event, _between_events_ms


def timed(function, tensor=None, now=time.perf_counter):
    """Call a function: (its result, its time in ms on the device of a tensor)."""
    mark, elapsed_ms = clock(tensor, now)
    start = mark()
    result = function()
    return result, elapsed_ms(start, mark())


def _record_event():
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between_events_ms(start, end):
    end.synchronize()
    return start.elapsed_time(end)


def peak_memory(loss, logits):
    """Peak memory of one forward and backward in addition to the logits, relative to that of the logits."""
    logits.grad = None
    if logits.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(logits).backward()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        peak = peak_allocated(lambda: loss(logits).backward())
    return peak / (logits.numel() * logits.element_size())


def peak_allocated(function):
    """Peak of the bytes that a function allocates on CPU."""
    # The profiler sees neither memory of other threads nor of NumPy, so torch allocates in place of NumPy here.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    zeros = lambda shape, dtype, device: torch.zeros(shape, dtype=dtype, device=device)  # noqa: E731
    patch = mock.patch('mmseg_cpg.ops._memory.zeros', zeros)
    try:
        with patch, torch.profiler.profile(profile_memory=True) as profile:
            function()
    finally:
        torch.set_num_threads(threads)
    held = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def measure(losses, logits, repeats, baseline, limit_s=inf):
    """Time and memory of each loss, by its name, and its time over that of one of them, see :func:`ratio`.

    The losses run in turn, so that a change of the machine's speed affects all of them. A loss is no longer run
    once its timed runs, at least four, have taken longer than the limit.
    """
    times = {name: [] for name in losses}
    for repeat in range(repeats + 1):
        for name, loss in losses.items():
            if len(times[name]) >= 4 and sum(map(sum, times[name])) > 1e3 * limit_s:
                continue
            sample = run(loss, logits)
            if repeat:  # the first warms up
                times[name].append(sample)
    totals = {name: [forward + backward for forward, backward in samples] for name, samples in times.items()}
    rows = {}
    for name, samples in times.items():
        total = totals[name]
        low, high = percentiles(total)
        rows[name] = {
            'forward_ms': round(statistics.median(forward for forward, _ in samples), 4),
            'backward_ms': round(statistics.median(backward for _, backward in samples), 4),
            'total_ms': round(statistics.median(total), 4),
            'total_p20_ms': round(low, 4),
            'total_p80_ms': round(high, 4),
            'peak_memory': round(peak_memory(losses[name], logits), 3),
            **ratio(total, totals[baseline]),
        }
    return rows


def ratio(times, baseline):
    """Time over that of the baseline in the same turn: the median, and its 95 % bootstrap interval.

    Args:
        times, baseline: Of each turn; where one stopped early, the turns of both count.
    """
    ratios = np.array([time / base for time, base in zip(times, baseline, strict=False)])
    medians = np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return {
        'over_baseline': round(float(np.median(ratios)), 3),
        'interval': [round(low.item(), 3), round(high.item(), 3)],
    }


def with_interval(row):
    """The ratio of :func:`ratio` as text."""
    return '{over_baseline:.2f} ({interval[0]:.2f} to {interval[1]:.2f})'.format(**row)


def percentiles(values):
    """The 20 and 80 % percentiles of some values."""
    low, *_, high = statistics.quantiles(values, n=5)
    return low, high


def summary(values, unit='ms'):
    """Median and 20 and 80 % percentiles of values, with the unit in their names."""
    low, high = percentiles(values)
    return {unit: round(statistics.median(values), 3), f'p20_{unit}': round(low, 3), f'p80_{unit}': round(high, 3)}


def kernels(loss, logits):
    """Time in µs of each kernel of one forward and backward on the device, by name; none on CPU."""
    logits.grad = None
    with torch.profiler.profile() as profile:
        loss(logits).backward()
        if logits.is_cuda:
            torch.cuda.synchronize()
    times = {}
    for event in profile.profiler.kineto_results.events():
        if event.device_type() == torch.autograd.DeviceType.CUDA and not event.name().startswith('Mem'):
            times.setdefault(event.name(), []).append(round(1e-3 * event.duration_ns(), 1))
    return times


def copy_bandwidth(tensor, repeats=20):
    """Bytes per second, read and written, of copying a tensor on its device: the median."""
    target, times = torch.empty_like(tensor), []
    for repeat in range(repeats + 1):
        _, time_ms = timed(lambda: target.copy_(tensor), tensor)
        if repeat:  # the first warms up
            times.append(time_ms)
    return 2e3 * tensor.numel() * tensor.element_size() / statistics.median(times)


def environment(device, *modules):
    """Date, commit, hardware, settings of glibc's allocator, and versions, including those of further modules."""

    def output_of(command):
        if shutil.which(command[0]) is None:
            return ''
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()

    def version_of(package):
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    lines = Path('/proc/cpuinfo').read_text().splitlines()
    cpu = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())
    return {
        'date': date.today().isoformat(),
        'commit': output_of(['git', 'describe', '--always', '--dirty', '--exclude=*']),
        'device': torch.cuda.get_device_name() if device == 'cuda' else f'{cpu}, {os.cpu_count()} cores',
        'threads': torch.get_num_threads(),
        **{name: value for name, value in os.environ.items() if name.startswith('MALLOC_')},
        'python': platform.python_version(),
        'torch': torch.__version__,
        **(
            {'triton': version_of('triton'), 'cuda': torch.version.cuda, 'cudnn': torch.backends.cudnn.version()}
            if device == 'cuda'
            else {}
        ),
        **{module.__name__: module.__version__ for module in modules},
    }


def result_path(name, device):
    """Result file of this machine: results/VERSION/NAME--MACHINE.json."""
    machine = re.sub('[^a-z0-9]+', '-', environment(device)['device'].lower()).strip('-')
    return RESULTS / __version__ / f'{name}--{machine}.json'


def read_results(name):
    """The stored results of this version on CPUs, one per machine, the newest first, with the names of their files."""
    paths = sorted((RESULTS / __version__).glob(f'{name}--*.json'))
    results = [{'file': path.name, **json.loads(path.read_text('utf-8'))} for path in paths]
    on_cpu = [result for result in results if 'cuda' not in result['environment']]
    return sorted(on_cpu, key=lambda result: result['environment']['date'], reverse=True)


def read_result(name):
    """The newest of :func:`read_results`."""
    return read_results(name)[0]


def write_result(result, out, *tables):
    """Write a result to a file and print its tables."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + '\n', 'utf-8')
    print(*tables, f'wrote {out}', sep='\n\n')


def against(value, bar):
    """Describe whether a value meets its upper limit; both may be None."""
    if bar is None:
        return ''
    if value is None:
        return f'{bar}: {NOT_MEASURED}'
    return f'{bar}: met' if value <= bar else f'{bar}: missed by {value - bar:.2f}'


def size(shape):
    return '×'.join(map(str, shape))
