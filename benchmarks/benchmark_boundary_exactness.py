"""How many boundary entries a plain float32 convolution finds that are none, and what that does to the loss.

    python benchmarks/benchmark_boundary_exactness.py        writes benchmark_boundary_exactness.json beside this file

``conv2d(one_hot) != 0`` marks every entry whose float32 sum does not cancel to 0; the rounding depends on the
convolution's back end. The surplus entries dilute the mean of the loss: dilution is the exact loss over the plain one.
"""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import environment
from street_labels import street_labels

from mmseg_cpg.ops import cpg_loss, sobel_numerators

NUM_CLASSES = 16
SIZE_PX = 256
KSIZES = (3, 5, 7)


def backends(device):
    if device == 'cpu':
        yield 'oneDNN', nullcontext()
        yield 'native', torch.backends.mkldnn.flags(enabled=False)
        return
    for tf32 in (True, False):
        for benchmark in (True, False):
            name = f'cuDNN, TF32 {"on" if tf32 else "off"}, benchmark {"on" if benchmark else "off"}'
            yield name, torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=tf32)


def plain_gradient(probability, ksize):
    """(B, C, 2, H, W) by one float32 convolution with the kernel's rounded elements."""
    rows, denominator = sobel_numerators(ksize)
    kernel_x = (torch.tensor(rows, dtype=torch.float64) / denominator).float().to(probability.device)
    planes = probability.flatten(0, 1)[:, None]
    padded = F.pad(planes, (ksize // 2,) * 4, mode='replicate')
    gradient = F.conv2d(padded, torch.stack([kernel_x, kernel_x.T])[:, None])
    return gradient.view(*probability.shape[:2], 2, *probability.shape[2:])


def markdown(result):
    """The table of the README."""
    lines = [
        '| ksize | convolution | entries marked | true boundary entries | loss too small by |',
        '|---|---|---|---|---|',
    ]
    for row in result['rows']:
        lines.append(
            f'| {row["ksize"]} | {row["backend"]} | {row["marked_entries"]:,} | {row["true_entries"]:,} '
            f'| {row["dilution"]:.1f} |'
        )
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    args = parser.parse_args()
    label = street_labels(1, NUM_CLASSES, SIZE_PX, SIZE_PX)
    label[label == 255] = 0  # no void: this is about rounding alone
    label = label.to(args.device)
    logits = torch.randn(1, NUM_CLASSES, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0)).to(args.device)
    one_hot = F.one_hot(label, NUM_CLASSES).movedim(-1, 1).float()
    rows = []
    for ksize in KSIZES:
        exact = cpg_loss(logits, label, ksize).item()
        entries = round(cpg_loss(logits, label, ksize, reduction='sum').item() / exact)
        for name, flags in backends(args.device):
            with flags:
                true, predicted = plain_gradient(one_hot, ksize), plain_gradient(logits.softmax(1), ksize)
            marked = true != 0
            plain = (marked * (predicted - true)).square().sum() / marked.sum()
            row = {'ksize': ksize, 'backend': name, 'true_entries': entries, 'marked_entries': marked.sum().item()}
            row['dilution'] = round(exact / plain.item(), 2)
            rows.append(row)
            print(
                'k={ksize} {backend}: {marked_entries:,} marked, {true_entries:,} true, loss / {dilution}'.format(**row)
            )
    result = {'environment': environment(args.device), 'label': [SIZE_PX, SIZE_PX, NUM_CLASSES], 'rows': rows}
    args.out.write_text(json.dumps(result, indent=1) + '\n')
    print(markdown(result), f'wrote {args.out}', sep='\n\n')


if __name__ == '__main__':
    main()
