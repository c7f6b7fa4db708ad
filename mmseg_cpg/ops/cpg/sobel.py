"""Sobel-like kernels (CPG paper, Eq. 8 and 9) as exact rational numbers.

S_x, S_y: k x k kernels; u, v: column and row offset from the center, in [-r, r] with r = (k - 1) / 2.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import lcm

from .._validation import check_int

MIN_KSIZE, MAX_KSIZE = 3, 11


def check_ksize(ksize: int) -> int:
    """Return ``ksize`` as an int, or raise where no kernel of that size exists.

    Raises:
        TypeError: ``ksize`` is not an integer.
        ValueError: ``ksize`` is even or outside [3, 11]; above 11 the numerators no longer fit int32.
    """
    ksize = check_int('ksize', ksize)
    if not MIN_KSIZE <= ksize <= MAX_KSIZE or ksize % 2 == 0:
        raise ValueError(f'ksize must be odd and in [{MIN_KSIZE}, {MAX_KSIZE}], got {ksize}')
    return ksize


@cache
def sobel_numerators(ksize: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Integer numerators of S_x and their common denominator.

    S_x[v, u] = u / (u^2 + v^2), 0 at the center (Eq. 8); S_y is its transpose (Eq. 9). ksize 3 gives the Sobel kernel
    times 1/2. The largest element is 1, so the denominator is also the largest numerator.

    Args:
        ksize: Odd kernel size in [3, 11].

    Returns:
        ``(rows, denominator)``: k rows of k ints, and 2, 20 or 780 for ksize 3, 5 or 7.

    Raises:
        TypeError, ValueError: See :func:`check_ksize`.

    Example:
        >>> sobel_numerators(3)
        (((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), 2)
    """
    radius = check_ksize(ksize) // 2
    offsets = range(-radius, radius + 1)
    kernel = [[Fraction(u, u * u + v * v) if u else Fraction(0) for u in offsets] for v in offsets]
    denominator = lcm(*(element.denominator for row in kernel for element in row))
    return tuple(tuple(int(element * denominator) for element in row) for row in kernel), denominator
