"""Cross-entropy and CPG loss in one pass on a GPU, and the bytes that they move, against stock cross-entropy alone.

    python -m benchmarks.cross_entropy_cpg_on_gpu              times and memory, which needs a GPU
    python -m benchmarks.cross_entropy_cpg_on_gpu --paper      bytes on paper, which needs none

Forward and backward of ``fused`` (one pass), ``separate`` (cross-entropy, then cpg_loss) and ``stock`` (cross-entropy
alone) in turn, on float32 logits. Fused and separate must agree before they are timed.

On paper, each kernel reads and writes its tensors once. Of stock cross-entropy the forward reads the logits and writes
their log-softmax; the backward writes zeros and into them the gradient of the log-softmax, reads that and the
log-softmax, and writes the gradient: six times the logits. Fused reads the logits in the forward and in the backward
and writes the gradient: three times the logits. It also moves maps of the pixels, and reads the logits of each tile's
own classes again, with a halo, for the error and for the gradient.
"""

import csv

import torch
import torch.nn.functional as F

from mmseg_cpg import __version__
from mmseg_cpg.ops import boundary_targets

from .common import RESULTS, environment, make_parser, measure, result_path, setup, size, write_result
from .cpg_loss_on_gpu import ERROR_BYTES, MAP_BYTES, SOFTMAX_BYTES, floor
from .cross_entropy_cpg import cells, check, losses_of, table
from .synthetic import street_labels

SHAPES = [(4, 19, 1024, 2048), (4, 150, 512, 512)]
QUICK_SHAPES = [(1, 3, 8, 12)]
KSIZES = (3, 5, 7)
DIGITS = 3  # of a ms
PAPER = RESULTS / __version__ / 'cross_entropy_cpg_bytes.csv'


def class_reads(label, num_classes, ksize):
    """How many logits the kernels that go through the classes of a tile read."""
    from mmseg_cpg.ops.cpg.triton_kernels import TILE_X, TILE_Y  # triton is not installed everywhere

    radius = ksize // 2
    is_valid = boundary_targets(label, ksize, num_classes=num_classes).mask()

    def of_tiles(mask, halo):
        """Whether the tiles have such a pixel within their halo, (B, tiles in y, tiles in x)."""
        height, width = mask.shape[1:]
        tile_y, tile_x = TILE_Y.value, TILE_X.value
        padded = F.pad(mask[:, None].float(), (halo, halo + -width % tile_x, halo, halo + -height % tile_y))
        return F.max_pool2d(padded, (tile_y + 2 * halo, tile_x + 2 * halo), (tile_y, tile_x))[:, 0] > 0

    total = 0
    for halo, tiles in ((radius, of_tiles(is_valid, 0)), (2 * radius, of_tiles(is_valid, radius))):
        patch = (TILE_Y.value + 2 * halo) * (TILE_X.value + 2 * halo)
        for class_index in range(num_classes):
            total += patch * (of_tiles(label == class_index, halo) & tiles).sum().item()
    return total


def bytes_on_paper(label, num_classes, ksize):
    """The bytes that each loss moves through the device's memory, forward and backward, for float32 logits."""
    pixels, label_bytes = label.numel(), label.numel() * label.element_size()
    logits_bytes, classes = 4 * num_classes * pixels, 4 * class_reads(label, num_classes, ksize)
    stock = 6 * logits_bytes + 2 * label_bytes
    # Written once and read once, at most: the maps and the softmax of the pixels, both errors, and the sum of P dL/dP.
    maps = 2 * (MAP_BYTES + SOFTMAX_BYTES + 3 * ERROR_BYTES) * pixels
    fused = 3 * logits_bytes + label_bytes + maps + classes
    cpg = floor(label, num_classes, ksize, torch.float32, torch.contiguous_format)
    separate = stock + cpg['forward_bytes'] + cpg['backward_bytes'] + classes
    return {'stock': stock, 'fused': fused, 'separate': separate}


def paper_rows():
    for shape in SHAPES:
        label = street_labels(*shape)
        for ksize in KSIZES:
            yield {'logits': size(shape), 'ksize': ksize, **bytes_on_paper(label, shape[1], ksize)}


def measure_all(device, repeats, quick=False):
    """Rows for all cases."""
    rows = []
    for shape in QUICK_SHAPES if quick else SHAPES:
        logits, label = setup(shape, device)
        for main_loss in ('CE', 'BCE'):
            for ksize in KSIZES:
                losses = losses_of(label, ksize, main_loss, 'triton')
                check(losses, logits)
                measured = measure(losses, logits, repeats, 'stock')
                row = {'logits': shape, 'main_loss': main_loss, 'ksize': ksize, **measured}
                rows.append(row)
                print(cells(row, DIGITS), flush=True)
    return rows


def markdown(rows):
    """The table of times."""
    return table(rows, DIGITS)


def paper_markdown():
    """The table of stored bytes on paper."""
    lines = [
        '| logits | ksize | CE alone, MB | CE + CPG in one pass, MB (÷ CE) | CE, then CPG, MB (÷ CE) |',
        '|---' * 5 + '|',
    ]
    with PAPER.open() as file:
        for row in csv.DictReader(file):
            stock, fused, separate = (int(row[name]) for name in ('stock', 'fused', 'separate'))
            both = ' | '.join(f'{1e-6 * each:,.0f} ({each / stock:.2f})' for each in (fused, separate))
            lines.append(f'| {row["logits"]} | {row["ksize"]} | {1e-6 * stock:,.0f} | {both} |')
    return '\n'.join(lines)


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--paper', action='store_true', help='write the bytes on paper; nothing is measured')
    parser.add_argument('--device', default='cuda', choices=('cpu', 'cuda'))
    parser.add_argument('--repeats', type=int, default=30, help='counted runs of each case')
    parser.add_argument('--quick', action='store_true', help='tiny cases on any device, to see that it works')
    args = parser.parse_args()
    if args.paper:
        rows = list(paper_rows())
        with (args.out or PAPER).open('w', newline='') as file:
            writer = csv.DictWriter(file, rows[0], lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)
        return
    rows = measure_all(args.device, args.repeats, args.quick)
    result = {'environment': environment(args.device), 'rows': rows}
    write_result(result, args.out or result_path('cross_entropy_cpg', args.device), markdown(rows))


if __name__ == '__main__':
    main()
