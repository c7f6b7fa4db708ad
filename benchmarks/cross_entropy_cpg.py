"""Time and memory of cross_entropy_cpg_loss relative to stock cross-entropy alone.

    python -m benchmarks.cross_entropy_cpg

Forward and backward on CPU. Stock is ``F.cross_entropy``, or ``F.binary_cross_entropy_with_logits`` of the one-hot
label, alone. ``separate`` is stock cross-entropy followed by cpg_loss, as ``loss_decode=[CrossEntropyLoss, CPGLoss]``
computes it. All run in turn; ratios are medians of the ratios of single rounds, with their 95 % bootstrap intervals.
Memory is the peak with one thread in addition to the logits, in units of their bytes, the gradient (1.0) included.
"""

import torch
import torch.nn.functional as F

from mmseg_cpg.ops import cpg_loss, cross_entropy_cpg_loss

from .common import against, environment, make_parser, measure, result_path, setup, size, with_interval, write_result

# Logits, main loss, and the bar for time over the stock loss by ksize.
CASES = [
    ((2, 19, 512, 1024), 'CE', {3: 0.9, 5: 1.05, 7: 1.25}),
    ((1, 150, 512, 512), 'CE', {3: 0.75, 5: 0.85, 7: 0.95}),
    ((2, 19, 512, 1024), 'BCE', {3: 0.4, 5: 0.5, 7: 0.6}),
]
MEMORY_BAR = 1.3


def stock_cross_entropy(logits, label):
    return F.cross_entropy(logits, label, ignore_index=255)


def stock_binary(logits, label):
    counted = label != 255
    one_hot = torch.zeros_like(logits).scatter_(1, label.where(counted, 0)[:, None], 1)
    weight = counted[:, None].expand_as(logits).float()
    error = F.binary_cross_entropy_with_logits(logits, one_hot, reduction='none')
    return (error * weight).sum() / weight.sum()


def losses_of(label, ksize, main_loss, implementation='auto'):
    stock = {'CE': stock_cross_entropy, 'BCE': stock_binary}[main_loss]
    options = dict(use_sigmoid=main_loss == 'BCE', avg_non_ignore=True, implementation=implementation)
    return {
        'stock': lambda z: stock(z, label),
        'fused': lambda z: cross_entropy_cpg_loss(z, label, ksize, **options).total,
        'separate': lambda z: stock(z, label) + cpg_loss(z, label, ksize, implementation=implementation),
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


def measure_all(repeats):
    rows = []
    for shape, main_loss, bars in CASES:
        logits, label = setup(shape, 'cpu')
        for ksize, bar in bars.items():
            losses = losses_of(label, ksize, main_loss)
            check(losses, logits)
            row = {'logits': shape, 'main_loss': main_loss, 'ksize': ksize, 'bar': bar}
            rows.append({**row, **measure(losses, logits, repeats, 'stock')})
            print(cells(rows[-1]), flush=True)
    return rows


def cells(row, digits=0):
    """A row of :func:`table`."""
    names = ('stock', 'fused', 'separate')
    values = [
        size(row['logits']),
        row['main_loss'],
        str(row['ksize']),
        ', '.join(f'{row[name]["total_ms"]:.{digits}f}' for name in names),
        with_interval(row['fused']),
        with_interval(row['separate']),
        ', '.join(f'{row[name]["peak_memory"]:.2f}' for name in names),
    ]
    return f'| {" | ".join(values)} |'


def table(rows, digits=0):
    """The table of times, with some digits of a ms, and memory."""
    head = (
        'logits', 'main loss', 'ksize', 'stock, fused, separate, ms', 'fused ÷ stock (95 %)', 'separate ÷ stock (95 %)',
        'memory: stock, fused, separate',
    )  # fmt: skip
    lines = [cells(row, digits) for row in rows]
    return '\n'.join([f'| {" | ".join(head)} |', '|---' * len(head) + '|', *lines])


def markdown(result):
    """The table of the documentation."""
    return table(result['cases'])


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--repeats', type=int, default=25, help='timed runs of each case (default: 25)')
    args = parser.parse_args()
    result = {'environment': environment('cpu'), 'repeats': args.repeats, 'cases': measure_all(args.repeats)}
    write_result(result, args.out or result_path('cross_entropy_cpg', 'cpu'), markdown(result))
    for row in result['cases']:
        for value, bar in ((row['fused']['over_baseline'], row['bar']), (row['fused']['peak_memory'], MEMORY_BAR)):
            if value > bar:
                print(f'{size(row["logits"])}, {row["main_loss"]}, ksize {row["ksize"]}: bar {against(value, bar)}')


if __name__ == '__main__':
    main()
