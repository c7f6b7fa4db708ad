"""Time and memory of losses, forward and backward, and where they were measured: what the benchmarks share."""

import os
import platform
import statistics
import subprocess
import time
from datetime import date
from math import inf
from pathlib import Path

import torch
from street_labels import street_labels


def setup(shape, device, **options):
    """Logits of a shape, normally distributed, and a label like those of street scenes."""
    batch, num_classes, height, width = shape
    label = street_labels(batch, num_classes, height, width, **options).to(device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(device).requires_grad_(), label


def run(loss, logits):
    """One forward and backward: (forward ms, backward ms), wall time on CPU, between events of the stream on CUDA."""
    logits.grad = None
    if logits.is_cuda:
        torch.cuda.synchronize()
    mark = _record_event if logits.is_cuda else time.perf_counter
    start = mark()
    value = loss(logits)
    middle = mark()
    value.backward()
    end = mark()
    if logits.is_cuda:
        torch.cuda.synchronize()
        return start.elapsed_time(middle), middle.elapsed_time(end)
    return 1e3 * (middle - start), 1e3 * (end - middle)


def _record_event():
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def peak_memory(loss, logits):
    """Most bytes held beside the logits during one forward and backward, over the logits' bytes."""
    logits.grad = None
    if logits.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(logits).backward()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        with torch.profiler.profile(profile_memory=True) as profile:
            loss(logits).backward()
        held = peak = 0
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
            if event.name() == '[memory]':
                held += event.nbytes()
                peak = max(peak, held)
    return peak / (logits.numel() * logits.element_size())


def measure(losses, logits, repeats, limit_s=inf):
    """Interleave the losses, so that a change of the machine's speed meets all of them.

    A loss is run no more once its counted runs, at least four, have taken longer than the limit.
    """
    times = {name: [] for name in losses}
    for repeat in range(repeats + 1):
        for name, loss in losses.items():
            if len(times[name]) >= 4 and sum(map(sum, times[name])) > 1e3 * limit_s:
                continue
            sample = run(loss, logits)
            if repeat:  # the first warms up
                times[name].append(sample)
    rows = {}
    for name, samples in times.items():
        total = [forward + backward for forward, backward in samples]
        low, *_, high = statistics.quantiles(total, n=5)
        rows[name] = {
            'forward_ms': round(statistics.median(forward for forward, _ in samples), 2),
            'backward_ms': round(statistics.median(backward for _, backward in samples), 2),
            'total_ms': round(statistics.median(total), 2),
            'total_p20_ms': round(low, 2),
            'total_p80_ms': round(high, 2),
            'peak_memory': round(peak_memory(losses[name], logits), 3),
        }
    return rows


def environment(device, *modules):
    """Date, commit, hardware and versions, those of further modules included."""

    def first_line(command):
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()

    lines = Path('/proc/cpuinfo').read_text().splitlines()
    cpu = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor())
    return {
        'date': date.today().isoformat(),
        'commit': first_line(['git', 'describe', '--always', '--dirty', '--exclude=*']),
        'device': torch.cuda.get_device_name() if device == 'cuda' else f'{cpu}, {os.cpu_count()} cores',
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        **{module.__name__: module.__version__ for module in modules},
    }


def size(shape):
    return '×'.join(map(str, shape))
