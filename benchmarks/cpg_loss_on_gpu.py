"""The CPG loss on a GPU against cross-entropy, and against the fewest bytes that it can move."""

import torch
import torch.nn.functional as F

from mmseg_cpg.ops import boundary_targets, cpg_loss
from mmseg_cpg.ops._morphology import dilate

from .common import NOT_MEASURED, against, copy_bandwidth, kernels, measure, run, setup, size

# Most time over that of cross-entropy, by ksize, float32 logits; and most memory.
BARS = {
    (4, 19, 1024, 2048): {3: 0.5, 5: 0.75, 7: 1.0},
    (4, 150, 512, 512): {3: 0.5, 5: 0.6, 7: 0.75},
}
MEMORY_BAR = 1.3
QUICK_SHAPES = [(1, 3, 8, 12)]
KSIZES = (3, 5, 7)
VARIANTS = [
    (torch.float32, torch.contiguous_format),
    (torch.float16, torch.contiguous_format),
    (torch.bfloat16, torch.contiguous_format),
    (torch.float32, torch.channels_last),
]
IMPLEMENTATIONS = ('triton', 'sparse', 'dense')
# A GPU reads memory in sectors of so many bytes.
SECTOR_BYTES = 32
# Of a pixel: class id and whether it counts; maximum and sum of the softmax, where it is read; error.
MAP_BYTES, SOFTMAX_BYTES, ERROR_BYTES = 3, 8, 4


def floor(label, num_classes, ksize, dtype, memory_format):
    """The fewest bytes that forward and backward move through the device's memory, on paper.

    Forward reads the label and, of the logits, each sector with a logit of a pixel that some boundary window reads; it
    writes the per-pixel maps and the error, which the mean reads. Backward reads the maps and the same sectors again
    and writes the gradient of all logits.
    """
    boundary = boundary_targets(label, ksize, num_classes=num_classes).mask()
    is_read = dilate(boundary, ksize)
    dim = 3 if memory_format is torch.channels_last else 1
    in_memory = is_read.unsqueeze(dim).repeat_interleave(num_classes, dim).flatten()
    logits_per_sector = SECTOR_BYTES // dtype.itemsize
    in_memory = F.pad(in_memory, (0, -in_memory.numel() % logits_per_sector))
    logits = SECTOR_BYTES * in_memory.view(-1, logits_per_sector).any(1).sum().item()
    maps = MAP_BYTES * label.numel() + SOFTMAX_BYTES * is_read.sum().item()
    return {
        'boundary_share': round(boundary.float().mean().item(), 4),
        'read_share': round(is_read.float().mean().item(), 4),
        'forward_bytes': label.numel() * (label.element_size() + 2 * ERROR_BYTES) + logits + maps,
        'backward_bytes': logits + maps + num_classes * label.numel() * dtype.itemsize,
    }


def losses_of(label, ksize, implementations):
    losses = {name: lambda z, name=name: cpg_loss(z, label, ksize, implementation=name) for name in implementations}
    return {**losses, 'cross_entropy': lambda z: F.cross_entropy(z, label, ignore_index=255)}


def check(losses, logits):
    """Triton and sparse must agree before either is timed."""
    (one, one_gradient), (other, other_gradient) = (
        (value.item(), *torch.autograd.grad(value, logits))
        for value in (losses[n](logits) for n in IMPLEMENTATIONS[:2])
    )
    loss_error = abs(one - other) / other
    gradient_error = ((one_gradient - other_gradient).norm() / other_gradient.norm()).item()
    bound = 2e-5 + 2 * torch.finfo(logits.dtype).eps * (logits.dtype is not torch.float32)
    if not (loss_error <= 2e-5 and gradient_error <= bound):
        raise SystemExit(f'triton and sparse differ: loss by {loss_error}, gradient by {gradient_error} (relative)')


def measure_row(row, losses, logits, repeats):
    """Measurements of all losses, by name, or why there is none; and how near Triton comes to the floor."""
    failing = {}
    for name, loss in losses.items():
        try:
            run(loss, logits)
        except (RuntimeError, ValueError) as error:  # no Triton, or no room for the dense implementation
            failing[name] = {'fails': str(error).splitlines()[0]}
    if not failing.keys() & set(IMPLEMENTATIONS[:2]):
        check(losses, logits)
    working = {name: loss for name, loss in losses.items() if name not in failing}
    measured = measure(working, logits, repeats, 'cross_entropy')
    bytes_per_ms = 1e-3 * copy_bandwidth(logits.detach())
    for name, result in measured.items():
        result['over_cross_entropy'] = result.pop('over_baseline')
        of_kernels = kernels(losses[name], logits)
        # None: the profiler saw nothing, as without the rights to the GPU's counters.
        result['launches'] = sum(map(len, of_kernels.values())) or None
        if name == 'triton':
            result['kernels_us'] = of_kernels
            for part in ('forward', 'backward'):
                floor_ms = row[f'{part}_bytes'] / bytes_per_ms
                result[f'{part}_share_of_copy'] = round(floor_ms / result[f'{part}_ms'], 3)
    return {'copy_gb_per_s': round(1e-6 * bytes_per_ms, 1), **measured, **failing}


def measure_all(device, repeats, quick=False):
    """Rows for all cases."""
    rows = []
    for shape in QUICK_SHAPES if quick else BARS:
        logits, label = setup(shape, device)
        for ksize in KSIZES:
            for dtype, memory_format in VARIANTS:
                is_plain = (dtype, memory_format) == VARIANTS[0]
                row = {
                    'logits': shape,
                    'dtype': str(dtype).removeprefix('torch.'),
                    'memory_format': str(memory_format).removeprefix('torch.'),
                    'ksize': ksize,
                    'bar': BARS.get(shape, {}).get(ksize) if is_plain else None,
                    **floor(label, shape[1], ksize, dtype, memory_format),
                }
                cast = logits.detach().to(dtype, memory_format=memory_format).requires_grad_()
                losses = losses_of(label, ksize, IMPLEMENTATIONS if is_plain else IMPLEMENTATIONS[:2])
                row['measured'] = measure_row(row, losses, cast, repeats)
                rows.append(row)
                print(cells(row), flush=True)
    return rows


def cells(row):
    """A row of the table."""
    measured = row['measured']
    triton = measured.get('triton', {})
    floors = [row['forward_bytes'], row['backward_bytes']]
    floor_cell = ' + '.join(f'{1e-6 * each:.0f}' for each in floors)
    floor_cell += f' ({sum(floors) / measured["copy_gb_per_s"] * 1e-6:.3f} ms)'
    names = [f'{size(row["logits"])}, {row["dtype"]}', str(row['ksize'])]
    if row['memory_format'] != 'contiguous_format':
        names[0] += ', channels-last'
    return (
        '| '
        + ' | '.join(
            [
                *names,
                floor_cell,
                value_of(
                    measured,
                    'triton',
                    '{forward_ms:.3f} + {backward_ms:.3f} ({total_p20_ms:.3f} to {total_p80_ms:.3f})',
                ),
                value_of(measured, 'triton', '{forward_share_of_copy:.2f}, {backward_share_of_copy:.2f}'),
                value_of(measured, 'triton', '{launches}').replace('None', NOT_MEASURED),
                *(value_of(measured, name, '{total_ms:.3f}') for name in ('sparse', 'dense', 'cross_entropy')),
                value_of(measured, 'triton', '{over_cross_entropy:.2f}'),
                against(triton.get('over_cross_entropy'), row['bar']),
                value_of(measured, 'triton', '{peak_memory:.2f}'),
                against(triton.get('peak_memory'), MEMORY_BAR if row['bar'] else None),
                ', '.join(
                    value_of(measured, name, '{peak_memory:.1f}') for name in ('sparse', 'dense', 'cross_entropy')
                ),
            ]
        )
        + ' |'
    )


def value_of(measured, name, template):
    if name not in measured:
        return '–'
    return 'fails' if 'fails' in measured[name] else template.format(**measured[name])


def markdown(rows):
    """The table of the README."""
    head = (
        'logits', 'ksize', 'floor on paper: forward + backward, MB (at copy speed)',
        'triton: forward + backward, ms (20 to 80 % of the sum)', 'of copy bandwidth: forward, backward', 'launches',
        'sparse, ms', 'dense, ms', 'cross-entropy, ms', 'triton ÷ cross-entropy', 'bar',
        'memory', 'bar', 'memory: sparse, dense, cross-entropy',
    )  # fmt: skip
    return '\n'.join(['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|', *map(cells, rows)])
