"""How long cpg_loss takes and how much memory it needs, against the dense implementation and cross-entropy.

    python -m benchmarks.cpg_loss
    python -m benchmarks.cpg_loss --device cuda

Forward and backward on the same logits; correctness is checked first. All implementations run in turn, once per round.
Times are wall times in ms: median and 20th and 80th percentiles. Ratios are medians of the ratios of single rounds,
with their 95 % bootstrap intervals. Memory is the allocator's peak in addition to the logits, in units of the logits'
bytes, the gradient (1.0) included.

On CUDA, the cases differ and have bars, and times are those of the device. The table adds the minimum number of bytes
that the loss has to move, and the bandwidth that moving them in the measured time takes, as a share of the bandwidth of
copying the logits in the same run.
"""

from unittest import mock

import torch
import torch.nn.functional as F

from mmseg_cpg.ops import boundary_targets, cpg_loss
from mmseg_cpg.ops.cpg import dense

from .common import (
    environment,
    make_parser,
    measure,
    peak_memory,
    result_path,
    setup,
    size,
    with_interval,
    write_result,
)
from .cpg_loss_on_gpu import markdown as markdown_on_gpu
from .cpg_loss_on_gpu import measure_all as measure_on_gpu

CASES = [(2, 19, 512, 1024), (1, 150, 512, 512)]
KSIZES = (3, 5, 7)
# A dense implementation runs at least four times, and not again after this time.
LIMIT_S = 10
# Published growth: one dimension at a time.
GROWTH = {
    'classes': [(1, num_classes, 512, 512) for num_classes in (2, 19, 50, 100, 171)],
    'pixels': [(1, 19, size, size) for size in (128, 256, 512, 1024)],
}
GROWTH_REGIONS = (400, 800, 1600, 3200, 6400, 12800, 51200)
GROWTH_KSIZES = (3, 5, 7, 9, 11)


def grouped_correlate(probability, kernels):
    """What dense.py computes class by class, as one grouped convolution: a faster and leaner dense baseline."""
    num_classes, radius = probability.shape[1], kernels.shape[-1] // 2
    padded = F.pad(probability, (radius,) * 4, mode='replicate')
    weight = kernels[:, None].repeat(num_classes, 1, 1, 1)
    return F.conv2d(padded, weight, groups=num_classes).unflatten(1, (num_classes, 2))


def grouped_dense(logits, label, ksize):
    with mock.patch.object(dense, '_correlate', grouped_correlate):
        return cpg_loss(logits, label, ksize, implementation='dense')


def check(logits, label, ksize):
    """Sparse and dense must agree before either is timed."""
    results = []
    for implementation in ('sparse', 'dense'):
        loss = cpg_loss(logits, label, ksize, implementation=implementation)
        results.append((loss.item(), *torch.autograd.grad(loss, logits)))
    (sparse, sparse_gradient), (dense, dense_gradient) = results
    loss_error = abs(sparse - dense) / dense
    gradient_error = ((sparse_gradient - dense_gradient).norm() / dense_gradient.norm()).item()
    if not max(loss_error, gradient_error) <= 2e-5:
        raise SystemExit(f'sparse and dense differ: loss by {loss_error}, gradient by {gradient_error} (relative)')


def boundary_share(label, ksize):
    return round(boundary_targets(label, ksize).pixel.unique().numel() / label.numel(), 4)


def against_dense(device, repeats):
    rows = []
    for shape in CASES:
        logits, label = setup(shape, device)
        for ksize in KSIZES:
            check(logits, label, ksize)
            losses = {
                'sparse': lambda z, y=label, k=ksize: cpg_loss(z, y, k, implementation='sparse'),
                'dense': lambda z, y=label, k=ksize: cpg_loss(z, y, k, implementation='dense'),
                'grouped_dense': lambda z, y=label, k=ksize: grouped_dense(z, y, k),
                'cross_entropy': lambda z, y=label: F.cross_entropy(z, y, ignore_index=255),
            }
            row = {'logits': shape, 'ksize': ksize, 'boundary_share': boundary_share(label, ksize)}
            row.update(measure(losses, logits, repeats, 'sparse', LIMIT_S))
            for name in losses:
                row[name]['over_sparse'] = row[name].pop('over_baseline')
            rows.append(row)
            print(f'{size(shape)} k={ksize}:', *(f'{name} {row[name]["total_ms"]} ms' for name in losses), flush=True)
    return rows


def growth(device, repeats):
    cases = [(name, shape, 3, 3200) for name, shapes in GROWTH.items() for shape in shapes]
    cases += [('ksize', (1, 19, 512, 512), ksize, 3200) for ksize in GROWTH_KSIZES]
    cases += [('boundary share', (1, 19, 512, 512), 3, region) for region in GROWTH_REGIONS]
    measured = {}
    for _, *case in cases:  # one case is part of every series
        if tuple(case) not in measured:
            measured[tuple(case)] = measure_growth(device, repeats, *case)
    return [{'varies': name, **measured[tuple(case)]} for name, *case in cases]


def measure_growth(device, repeats, shape, ksize, pixels_per_region):
    logits, label = setup(shape, device, pixels_per_region=pixels_per_region)
    losses = {
        'sparse': lambda z: cpg_loss(z, label, ksize),
        'cross_entropy': lambda z: F.cross_entropy(z, label, ignore_index=255),
    }
    row = {'logits': shape, 'ksize': ksize, 'boundary_share': boundary_share(label, ksize)}
    row.update(measure(losses, logits, repeats, 'cross_entropy'))
    print(
        f'{size(shape)} k={ksize} boundary {100 * row["boundary_share"]:.1f} %: '
        f'sparse {row["sparse"]["total_ms"]:.1f} ms, over cross-entropy {with_interval(row["sparse"])}',
        flush=True,
    )
    return row


def odd_memory(device):
    """Peak memory of the sparse implementation where it is higher than on street labels and float32 logits."""
    shape = CASES[0]
    logits, street = setup(shape, device)
    noise = torch.randint(shape[1], street.shape, generator=torch.Generator().manual_seed(0)).to(device)
    rows = []
    for ksize in KSIZES:
        for labels, label, dtype in (('street', street, torch.float16), ('noise', noise, torch.float32)):
            cast = logits.detach().to(dtype).requires_grad_()
            peak = peak_memory(lambda z, y=label, k=ksize: cpg_loss(z, y, k), cast)
            row = {'labels': labels, 'dtype': str(dtype).removeprefix('torch.'), 'logits': shape, 'ksize': ksize}
            rows.append({**row, 'peak_memory': round(peak, 3)})
            print(
                '{labels} labels, {dtype}, k={ksize}: memory {peak_memory:.2f} x logits'.format(**rows[-1]), flush=True
            )
    return rows


def markdown(result):
    """The tables of the README: (against the dense implementation, growth, memory in odd cases), or that of a GPU."""
    if 'on_gpu' in result:
        return (markdown_on_gpu(result['on_gpu']),)
    speed = [
        '| logits | ksize | sparse, ms | dense, ms (÷ sparse) | grouped dense, ms (÷ sparse) '
        '| cross-entropy, ms (÷ sparse) | memory: sparse, dense, grouped, cross-entropy |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in result['against_dense']:
        others = [row[name] for name in ('dense', 'grouped_dense', 'cross_entropy')]
        times = ' | '.join(f'{other["total_ms"]:.0f} ({other["over_sparse"]:.1f})' for other in others)
        memory = ', '.join(f'{other["peak_memory"]:.1f}' for other in [row['sparse'], *others])
        speed.append(
            f'| {size(row["logits"])} | {row["ksize"]} | {row["sparse"]["total_ms"]:.0f} | {times} | {memory} |'
        )
    grown = [
        '| varies | logits | ksize | boundary pixels | sparse, ms | cross-entropy, ms | ÷ cross-entropy [95 %] |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in result['growth']:
        grown.append(
            f'| {row["varies"]} | {size(row["logits"])} | {row["ksize"]} | {100 * row["boundary_share"]:.1f} % '
            f'| {row["sparse"]["total_ms"]:.1f} | {row["cross_entropy"]["total_ms"]:.1f} '
            f'| {with_interval(row["sparse"])} |'
        )
    odd = ['| labels | logits | ' + ' | '.join(f'ksize {ksize}' for ksize in KSIZES) + ' |', '|---' * 5 + '|']
    for labels, dtype in dict.fromkeys((row['labels'], row['dtype']) for row in result['odd_memory']):
        rows = [row for row in result['odd_memory'] if (row['labels'], row['dtype']) == (labels, dtype)]
        memory = ' | '.join(f'{row["peak_memory"]:.1f}' for row in rows)
        odd.append(f'| {labels} | {size(rows[0]["logits"])}, {dtype} | {memory} |')
    return tuple('\n'.join(lines) for lines in (speed, grown, odd))


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--repeats', type=int, help='counted runs of each case (default: 9, for growth 45; on CUDA 30)')
    parser.add_argument(
        '--quick', action='store_true', help='the cases of CUDA, tiny and on any device, to see that it works'
    )
    args = parser.parse_args()
    on_gpu = args.device != 'cpu' or args.quick
    result = {'environment': environment(args.device)}
    if on_gpu:
        result['on_gpu'] = measure_on_gpu(args.device, args.repeats or 30, args.quick)
    else:
        repeats = args.repeats or 9
        result['against_dense'] = against_dense(args.device, repeats)
        result['growth'] = growth(args.device, 5 * repeats)  # short ones, which other load on the machine meets more
        result['odd_memory'] = odd_memory(args.device)
    write_result(result, args.out or result_path('cpg_loss', args.device), *markdown(result))


if __name__ == '__main__':
    main()
