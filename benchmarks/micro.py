"""The speed claims in the comments of ``mmseg_cpg/ops``: each form in the code against the plain form.

    python -m benchmarks.micro

One core, on sizes of one 1024 x 2048 label. Both forms run in turn, after their results are compared. The ratio is
plain over used, per repeat: median and 20 and 80 % percentiles. If it is near 1, the plain form can replace the other.
"""

from functools import partial

import numpy as np
import torch

from mmseg_cpg.ops._morphology import running_steps
from mmseg_cpg.ops.boundary_f1 import _WindowMax

from .common import percentiles, run_on_one_core, timed

HEIGHT, WIDTH = 1024, 2048
VOID = 255
TILE_PX = 8
NUM_TILES = 5000  # with a boundary, in a street scene


def forms():
    """Yield (place, what is used: instead of what, plain form, form that is used)."""
    generator = torch.Generator().manual_seed(0)

    def integers(high, *shape, dtype=torch.int64):
        return torch.randint(high, shape, generator=generator).to(dtype)

    label = integers(19, 1, HEIGHT, WIDTH)
    small = label.to(torch.uint8)
    yield 'targets.py', 'xor: != with a number', lambda: small != VOID, lambda: (small ^ VOID).bool()
    yield (
        'targets.py',
        'uint8 labels: int64 labels',
        lambda: torch.maximum(label, label),
        lambda: torch.maximum(small, small),
    )
    mask = torch.rand(HEIGHT * WIDTH, generator=generator) < 0.03
    yield (
        '_common.py',
        'numpy.flatnonzero: torch.nonzero',
        lambda: mask.nonzero()[:, 0],
        lambda: torch.from_numpy(np.flatnonzero(mask.numpy())),
    )
    values, index = integers(100, HEIGHT * WIDTH, dtype=torch.int32), mask.nonzero()[:, 0]
    yield 'targets.py', 'index_select: []', lambda: values[index], lambda: values.index_select(0, index)
    patch = integers(19, 100, NUM_TILES, dtype=torch.uint8)
    lowest = patch.amin(0)
    yield (
        'targets.py',
        'maximum: masked_fill',
        lambda: patch.masked_fill(patch <= lowest, VOID),
        lambda: torch.maximum(patch, (patch <= lowest).to(patch.dtype).mul_(VOID)),
    )
    pixel = integers(HEIGHT * WIDTH, 200_000, dtype=torch.int32)
    yield 'tiles.py', 'shift: division', lambda: pixel.div(TILE_PX, rounding_mode='floor'), lambda: pixel >> 3
    tile = integers(HEIGHT * WIDTH // TILE_PX**2, NUM_TILES)
    offset = torch.arange(3 * TILE_PX)
    short_tile, short_offset = tile.int(), offset.int()
    yield (
        'tiles.py',
        'int32 indices: int64 indices',
        lambda: offset[:, None] * WIDTH + tile.div(WIDTH // TILE_PX, rounding_mode='floor'),
        lambda: short_offset[:, None] * WIDTH + short_tile.div(WIDTH // TILE_PX, rounding_mode='floor'),
    )
    padded = small.flatten()
    rows = integers(HEIGHT * WIDTH // TILE_PX, 3 * TILE_PX * NUM_TILES)
    pixels = rows[:, None] * TILE_PX + torch.arange(TILE_PX)
    yield (
        'tiles.py',
        'gathering 64-bit words: gathering pixels',
        lambda: padded.index_select(0, pixels.view(-1)),
        lambda: padded.view(torch.int64).index_select(0, rows).view(torch.uint8),
    )
    features = torch.rand(19, HEIGHT // 4, WIDTH // 4, generator=generator)
    first, second = features[:, :-1], features[:, 1:]
    grad = torch.rand(first.shape, generator=generator)
    yield (
        'boundary_f1.py',
        'comparison into floating point: boolean mask',
        lambda: grad * (second > first),
        lambda: torch.gt(second, first, out=torch.empty_like(grad)).mul_(grad),
    )
    yield (
        'boundary_f1.py',
        'running maxima: max_pool2d',
        lambda: torch.nn.functional.max_pool2d(features, 5, 1),
        lambda: _WindowMax.apply(features, 5),
    )
    yield (
        '_morphology.py',
        'running maxima: one maximum per offset',
        partial(_maximum_per_offset, small, 7),
        partial(_running_maximum, small, 7),
    )


def _maximum_per_offset(values, ksize):
    for dim in (-2, -1):
        length = values.shape[dim] - ksize + 1
        total = values.narrow(dim, 0, length)
        for offset in range(1, ksize):
            total = torch.maximum(total, values.narrow(dim, offset, length))
        values = total
    return values


def _running_maximum(values, ksize):
    for dim in (-2, -1):
        for step in running_steps(ksize):
            length = values.shape[dim] - step
            values = torch.maximum(values.narrow(dim, 0, length), values.narrow(dim, step, length))
    return values


def measure(repeats):
    rows = []
    for place, claim, plain, used in forms():
        if not torch.equal(plain(), used()):
            raise SystemExit(f'{claim}: results differ')
        times = [(timed(plain)[1], timed(used)[1]) for _ in range(repeats)]
        plain_ms, used_ms = (sorted(each)[repeats // 2] for each in zip(*times, strict=True))
        ratios = [one / other for one, other in times]
        low, high = percentiles(ratios)
        rows.append(
            {
                'file': place,
                'claim': claim,
                'plain_ms': round(plain_ms, 3),
                'used_ms': round(used_ms, 3),
                'ratio': round(sorted(ratios)[repeats // 2], 2),
                'p20_ratio': round(low, 2),
                'p80_ratio': round(high, 2),
            }
        )
    return {'forms': rows}


def markdown(result):
    """The ratios as a table."""
    lines = ['| file | used: plain form | plain, ms | used, ms | ratio (20 to 80 %) |', '|---|---|---|---|---|']
    for row in result['forms']:
        lines.append(
            f'| {row["file"]} | {row["claim"]} | {row["plain_ms"]:.2f} | {row["used_ms"]:.2f} '
            f'| {row["ratio"]:.1f} ({row["p20_ratio"]:.1f} to {row["p80_ratio"]:.1f}) |'
        )
    return '\n'.join(lines)


def main():
    run_on_one_core('micro', __doc__, measure, markdown, repeats=30)


if __name__ == '__main__':
    main()
