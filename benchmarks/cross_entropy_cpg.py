"""How long cross_entropy_cpg_loss takes, and how much memory it needs, beside stock cross-entropy alone.

    python -m benchmarks.cross_entropy_cpg

Forward and backward on CPU. Stock is ``F.cross_entropy``, or ``F.binary_cross_entropy_with_logits`` of the one-hot
label, alone. Both run in turn, and each ratio is that of one turn: median, and the 95 % bootstrap interval of it.
Memory is the most that is held beside the logits, in units of the logits' bytes, the gradient (1.0) included, with one
thread. ``separate`` is cross-entropy followed by cpg_loss, as ``loss_decode=[CrossEntropyLoss, CPGLoss]`` computes it.

Under load the same runs beside a process that keeps one core busy: median and maximum over the quiet median.
"""

import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F

from mmseg_cpg.ops import boundary_targets, cpg_loss, cross_entropy_cpg_loss

from .common import environment, make_parser, peak_memory, result_path, run, setup, size, write_result

STREET, ADE = (2, 19, 512, 1024), (1, 150, 512, 512)
CASES = [(STREET, False), (ADE, False), (STREET, True)]
KSIZES = (3, 5, 7)


def stock_cross_entropy(logits, label):
    return F.cross_entropy(logits, label, ignore_index=255)


def stock_binary(logits, label):
    counted = label != 255
    one_hot = torch.zeros_like(logits).scatter_(1, label.where(counted, 0)[:, None], 1)
    weight = counted[:, None].expand_as(logits).float()
    error = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    return (error * weight).sum() / weight.sum()


def losses_of(label, ksize, use_sigmoid):
    stock = stock_binary if use_sigmoid else stock_cross_entropy
    options = dict(use_sigmoid=use_sigmoid, avg_non_ignore=True)
    return {
        'stock': lambda z: stock(z, label),
        'fused': lambda z: cross_entropy_cpg_loss(z, label, ksize, **options).total,
        'separate': lambda z: stock(z, label) + cpg_loss(z, label, ksize),
    }


def check(losses, logits):
    """Fused and separate must agree before either is timed."""
    (value, gradient), (expected, expected_gradient) = (
        (loss.detach(), *torch.autograd.grad(loss, logits))
        for loss in (losses['fused'](logits), losses['separate'](logits))
    )
    error = ((gradient - expected_gradient).norm() / expected_gradient.norm()).item()
    if not max(error, abs(value / expected - 1).item()) <= 1e-5:
        raise SystemExit(f'fused and separate differ: {value} and {expected}, gradients by {error} (relative)')


def times_ms(losses, logits, repeats):
    """Times of each loss, turn by turn."""
    turns = [{name: sum(run(loss, logits)) for name, loss in losses.items()} for _ in range(repeats + 1)]
    return {name: np.array([turn[name] for turn in turns[1:]]) for name in losses}  # the first warms up


def ratio(times, base):
    """Median of the ratios of single turns, and its bootstrap interval."""
    ratios = times / base
    samples = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(samples, axis=1), (0.025, 0.975))
    return {'over_stock': round(float(np.median(ratios)), 3), 'interval': [round(float(low), 3), round(float(high), 3)]}


class Busy:
    """A process that keeps a core busy."""

    def __enter__(self):
        self._process = subprocess.Popen([sys.executable, '-c', 'while True: pass'])

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()


def against_stock(repeats):
    rows = []
    for shape, use_sigmoid in CASES:
        logits, label = setup(shape, 'cpu')
        for ksize in KSIZES:
            losses = losses_of(label, ksize, use_sigmoid)
            check(losses, logits)
            times = times_ms(losses, logits, repeats)
            row = {'logits': shape, 'main_loss': 'BCE' if use_sigmoid else 'CE', 'ksize': ksize}
            for name in losses:
                memory = round(peak_memory(losses[name], logits), 3)
                row[name] = {'ms': round(float(np.median(times[name])), 1), 'peak_memory': memory}
                if name != 'stock':
                    row[name] |= ratio(times[name], times['stock'])
            rows.append(row)
            print(row, flush=True)
    return rows


def under_load(repeats):
    logits, label = setup(STREET, 'cpu')
    cases = {'cross_entropy': lambda z: stock_cross_entropy(z, label)}
    for ksize in KSIZES:
        cases[f'fused, ksize {ksize}'] = losses_of(label, ksize, False)['fused']
        cases[f'cpg_loss, ksize {ksize}'] = lambda z, k=ksize: cpg_loss(z, label, k)
        cases[f'boundary_targets, ksize {ksize}'] = lambda z, k=ksize: (boundary_targets(label, k), z[0, 0, 0, 0])[1]
    quiet = times_ms(cases, logits, repeats)
    with Busy():
        loaded = times_ms(cases, logits, repeats)
    rows = []
    for name in cases:
        median = float(np.median(quiet[name]))
        rows.append(
            {
                'case': name,
                'quiet_ms': round(median, 1),
                'median_over_quiet': round(float(np.median(loaded[name])) / median, 2),
                'maximum_over_quiet': round(float(loaded[name].max()) / median, 2),
            }
        )
        print(rows[-1], flush=True)
    return rows


def markdown(result):
    table = [
        '| logits | main loss | ksize | stock alone, ms | fused ÷ stock (95 %) | separate ÷ stock | memory: stock, '
        'fused, separate |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in result['against_stock']:
        low, high = row['fused']['interval']
        memory = ', '.join(f'{row[name]["peak_memory"]:.2f}' for name in ('stock', 'fused', 'separate'))
        table.append(
            f'| {size(row["logits"])} | {row["main_loss"]} | {row["ksize"]} | {row["stock"]["ms"]:.0f} '
            f'| {row["fused"]["over_stock"]:.2f} ({low:.2f} to {high:.2f}) | {row["separate"]["over_stock"]:.2f} '
            f'| {memory} |'
        )
    load = ['| | quiet, ms | loaded ÷ quiet, median | maximum |', '|---|---|---|---|']
    load += [
        '| {case} | {quiet_ms:.0f} | {median_over_quiet:.1f} | {maximum_over_quiet:.1f} |'.format(**row)
        for row in result['under_load']
    ]
    return '\n'.join(table), '\n'.join(load)


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--repeats', type=int, default=25, help='counted turns of each case')
    args = parser.parse_args()
    result = {'environment': environment('cpu'), 'repeats': args.repeats}
    result['against_stock'] = against_stock(args.repeats)
    result['under_load'] = under_load(args.repeats)
    write_result(result, args.out or result_path('cross_entropy_cpg', 'cpu'), *markdown(result))


if __name__ == '__main__':
    main()
