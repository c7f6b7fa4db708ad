"""Spurious boundary entries of a plain float32 convolution, and their effect on the loss.

    python -m benchmarks.boundary_exactness
    python -m benchmarks.boundary_exactness --device cuda

``conv2d(one_hot) != 0`` marks every entry whose float32 sum does not cancel to 0; rounding depends on the back end of
the convolution. The spurious entries lower the mean of the loss: dilution is the exact loss over the plain one.

On CUDA, the results are those of the CPU and of all settings of cuDNN, with the classes as images of one channel or as
groups of one convolution; a range covers benchmark mode and deterministic mode, each on and off.
"""

from contextlib import nullcontext
from itertools import product

import torch
import torch.nn.functional as F

from mmseg_cpg.ops import cpg_loss, sobel_numerators

from .common import environment, make_parser, result_path, write_result
from .synthetic import street_labels

NUM_CLASSES = 16
SIZE_PX = 256
KSIZES = (3, 5, 7)
LAYOUTS = ('images', 'images, channels-last', 'groups', 'groups, channels-last')


def backends(device):
    """(name, settings, layout of the convolution, context) of all variants on a device."""
    if device == 'cpu':
        yield 'oneDNN', {}, 'images', nullcontext()
        yield 'native', {}, 'images', torch.backends.mkldnn.flags(enabled=False)
        return
    cudnn = torch.backends.cudnn
    for layout in LAYOUTS:
        yield f'CUDA native, {layout}', {}, layout, cudnn.flags(enabled=False)
        for tf32, benchmark, deterministic in product((True, False), repeat=3):
            settings = dict(benchmark=benchmark, deterministic=deterministic)
            flags = cudnn.flags(enabled=True, allow_tf32=tf32, **settings)
            yield f'cuDNN, TF32 {"on" if tf32 else "off"}, {layout}', settings, layout, flags


def plain_gradient(probability, ksize, layout):
    """(B, C, 2, H, W) by one float32 convolution with the kernel's rounded elements."""
    rows, denominator = sobel_numerators(ksize)
    kernel_x = (torch.tensor(rows, dtype=torch.float64) / denominator).float().to(probability.device)
    weight = torch.stack([kernel_x, kernel_x.T])[:, None]
    planes = F.pad(probability, (ksize // 2,) * 4, mode='replicate')
    groups = 1
    if layout.startswith('groups'):
        groups = probability.shape[1]
        weight = weight.repeat(groups, 1, 1, 1)
    else:
        planes = planes.flatten(0, 1)[:, None]
    if layout.endswith('channels-last'):
        # clone, since to() treats a single channel as channels-last already.
        planes, weight = (each.clone(memory_format=torch.channels_last) for each in (planes, weight))
    gradient = F.conv2d(planes, weight, groups=groups)
    return gradient.reshape(*probability.shape[:2], 2, *probability.shape[2:])


def measure(device):
    """Rows for all variants on a device."""
    label = street_labels(1, NUM_CLASSES, SIZE_PX, SIZE_PX)
    label[label == 255] = 0  # no void: only rounding is measured
    label = label.to(device)
    logits = torch.randn(1, NUM_CLASSES, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0)).to(label.device)
    one_hot = F.one_hot(label, NUM_CLASSES).movedim(-1, 1).float()
    rows = []
    for ksize in KSIZES:
        exact = cpg_loss(logits, label, ksize).item()
        entries = round(cpg_loss(logits, label, ksize, reduction='sum').item() / exact)
        for name, settings, layout, flags in backends(device):
            row = {'ksize': ksize, 'backend': name, **settings, 'true_entries': entries}
            with flags:
                true, predicted = (plain_gradient(each, ksize, layout) for each in (one_hot, logits.softmax(1)))
            marked = true != 0
            plain = (marked * (predicted - true)).square().sum() / marked.sum()
            rows.append({**row, 'marked_entries': marked.sum().item(), 'dilution': round(exact / plain.item(), 2)})
            print(
                'k={ksize} {backend}: {marked_entries:,} marked, {true_entries:,} true, loss / {dilution}'.format(
                    **rows[-1]
                )
            )
    return rows


def markdown(result):
    """The table of the documentation."""
    lines = [
        '| ksize | convolution | entries marked | true boundary entries | loss too small by |',
        '|---|---|---|---|---|',
    ]
    for ksize, backend, entries in dict.fromkeys(map(case_of, result['rows'])):
        rows = [row for row in result['rows'] if case_of(row) == (ksize, backend, entries)]
        marked, dilution = (span(rows, key, form) for key, form in (('marked_entries', ',d'), ('dilution', '.1f')))
        lines.append(f'| {ksize} | {backend} | {marked} | {entries:,} | {dilution} |')
    return '\n'.join(lines)


def case_of(row):
    return row['ksize'], row['backend'], row['true_entries']


def span(rows, key, form):
    """The values of several rows, as one number or a range."""
    values = [row[key] for row in rows]
    return ' to '.join(format(value, form) for value in sorted({min(values), max(values)}))


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    args = parser.parse_args()
    result = {
        'environment': environment(args.device),
        'label': [SIZE_PX, SIZE_PX, NUM_CLASSES],
        'rows': (measure('cpu') if args.device == 'cuda' else []) + measure(args.device),
    }
    write_result(result, args.out or result_path('boundary_exactness', args.device), markdown(result))


if __name__ == '__main__':
    main()
