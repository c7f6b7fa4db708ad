"""The speed claims in the comments of ``mmseg_cpg/ops``, each as a pair: the plain form, and the one that is used.

    python -m benchmarks.micro        prints the ratio of the medians, plain over used, and the 20 to 80 % range

A ratio near 1 says that the plain form can take its place. Both forms run in turn, on the CPU, on sizes of one
1024 x 2048 label; that their results are equal is checked first.
"""

import statistics
import time

import numpy as np
import torch

REPEATS = 30
HEIGHT, WIDTH = 1024, 2048
VOID = 255


def pairs():
    """(claim, plain form, form that is used)."""
    generator = torch.Generator().manual_seed(0)

    def integers(high, *shape, dtype=torch.int64):
        return torch.randint(high, shape, generator=generator).to(dtype)

    label = integers(19, 1, HEIGHT, WIDTH)
    small = label.to(torch.uint8)
    yield '!= with a number: xor', lambda: small != VOID, lambda: (small ^ VOID).bool()

    yield 'maximum of int64: of uint8', lambda: torch.maximum(label, label), lambda: torch.maximum(small, small)

    mask = torch.rand(HEIGHT * WIDTH, generator=generator) < 0.03
    yield 'nonzero: numpy', lambda: mask.nonzero()[:, 0], lambda: torch.from_numpy(np.flatnonzero(mask.numpy()))

    values, index = integers(100, HEIGHT * WIDTH, dtype=torch.int32), mask.nonzero()[:, 0]
    yield 'indexing: index_select', lambda: values[index], lambda: values.index_select(0, index)

    patch = integers(19, 100, 20_000, dtype=torch.uint8)
    lowest = patch.amin(0)
    yield (
        'masked_fill: maximum',
        lambda: patch.masked_fill(patch <= lowest, VOID),
        lambda: torch.maximum(patch, (patch <= lowest).to(patch.dtype).mul_(VOID)),
    )

    tile = integers(HEIGHT * WIDTH // 64, 20_000)
    offset = torch.arange(24)
    short_tile, short_offset = tile.int(), offset.int()
    yield (
        'index arithmetic in int64: in int32',
        lambda: offset[:, None] * WIDTH + tile.div(WIDTH // 8, rounding_mode='floor'),
        lambda: short_offset[:, None] * WIDTH + short_tile.div(WIDTH // 8, rounding_mode='floor'),
    )

    padded = small.flatten()
    rows = integers(HEIGHT * WIDTH // 8, 24 * 20_000)
    pixels = rows[:, None] * 8 + torch.arange(8)
    yield (
        'taking pixels: taking words of 8',
        lambda: padded.index_select(0, pixels.view(-1)),
        lambda: padded.view(torch.int64).index_select(0, rows).view(torch.uint8),
    )

    features = torch.rand(19, HEIGHT, WIDTH // 4, generator=generator)
    first, second, grad = features[:, :-1], features[:, 1:], torch.rand(19, HEIGHT - 1, WIDTH // 4, generator=generator)
    yield (
        'boolean mask times gradient: comparing into floating point',
        lambda: grad * (second > first),
        lambda: torch.gt(second, first, out=torch.empty_like(grad)).mul_(grad),
    )


def time_ms(function):
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def main():
    print('| plain form: form that is used | plain, ms | used, ms | ratio (20 to 80 %) |\n|---|---|---|---|')
    for claim, plain, used in pairs():
        plain_result, used_result = plain(), used()
        assert torch.equal(plain_result.long(), used_result.long()), claim
        times = [(time_ms(plain), time_ms(used)) for _ in range(REPEATS)]
        ratios = sorted(one / other for one, other in times)
        low, high = ratios[REPEATS // 5], ratios[-REPEATS // 5]
        plain_ms, used_ms = (statistics.median(each) for each in zip(*times, strict=True))
        print(
            f'| {claim} | {plain_ms:.2f} | {used_ms:.2f} | {statistics.median(ratios):.1f} ({low:.1f} to {high:.1f}) |'
        )


if __name__ == '__main__':
    main()
