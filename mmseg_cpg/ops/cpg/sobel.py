"""Sobel-like kernels (CPG paper, Eq. 8 and 9) as exact rational numbers, and the correlation with them.

S_x, S_y: k x k kernels; u, v: column and row offset from the center, in [-r, r] with r = (k - 1) / 2. Correlations use
the numerators of the kernels, so results are multiplied by the kernels' denominator and exact for integers. Their
tensors are (H, W, n): n patches side by side. S_y is the transpose of S_x, so y gradients are x gradients of transposed
patches.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import lcm

import torch
from torch import Tensor

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


def correlate(patch: Tensor, ksize: int) -> Tensor:
    """x and y gradients of patches with a halo (Eq. 5).

    Args:
        patch: (H + k - 1, W + k - 1, n), integer (exact if the result fits the dtype, even if intermediate sums
            overflow) or floating point.
        ksize: Odd kernel size in [3, 11].

    Returns:
        (2, H, W, n) in the dtype of ``patch``.
    """
    height, width = (length - ksize + 1 for length in patch.shape[:2])
    gradient = patch.new_zeros(2, height, width, patch.shape[2])
    for each, values in ((gradient[0], patch), (gradient[1].transpose(0, 1), patch.transpose(0, 1))):
        add_x_gradient(each, values, ksize)
        if patch.is_floating_point() and patch.sum().isnan():
            # A NaN anywhere in the k x k window reaches the gradient, as in a convolution.
            center = values.narrow(1, ksize // 2, each.shape[1])
            for y in range(ksize):
                each.add_(center.narrow(0, y, each.shape[0]), alpha=0)
    return gradient


def add_x_gradient(gradient: Tensor, patch: Tensor, ksize: int) -> None:
    """Add the x gradient of patches to ``gradient`` in place.

    S_x is antisymmetric in its columns and symmetric in its rows, which halves the number of products.

    Args:
        gradient: (H, W, n).
        patch: (H + k - 1, W + k - 1, n), of the same dtype.
        ksize: Odd kernel size in [3, 11].
    """
    rows, _ = sobel_numerators(ksize)
    radius = ksize // 2

    def shifted(values: Tensor, dim: int, offset: int) -> Tensor:
        return values.narrow(dim, radius + offset, gradient.shape[dim])

    for x in range(1, radius + 1):
        difference = shifted(patch, 1, x) - shifted(patch, 1, -x)
        gradient.add_(shifted(difference, 0, 0), alpha=rows[radius][radius + x])
        for y in range(1, radius + 1):
            gradient.add_(shifted(difference, 0, y) + shifted(difference, 0, -y), alpha=rows[radius + y][radius + x])


def correlate_adjoint(gradient: Tensor, ksize: int) -> Tensor:
    """The transpose of :func:`correlate`: from (2, H, W, n) to (H + k - 1, W + k - 1, n)."""
    height, width, count = gradient.shape[1:]
    patch = gradient.new_zeros(height + ksize - 1, width + ksize - 1, count)
    add_x_adjoint(patch, gradient[0], ksize)
    add_x_adjoint(patch.transpose(0, 1), gradient[1].transpose(0, 1), ksize)
    return patch


def add_x_adjoint(patch: Tensor, gradient: Tensor, ksize: int) -> None:
    """The transpose of :func:`add_x_gradient`: add to ``patch`` in place what ``gradient`` contributes to it."""
    rows, _ = sobel_numerators(ksize)
    radius, (height, width, _) = ksize // 2, gradient.shape
    for x in range(1, radius + 1):
        column = torch.zeros_like(patch.narrow(1, 0, width))
        for y in range(ksize):
            column.narrow(0, y, height).add_(gradient, alpha=rows[y][radius + x])
        patch.narrow(1, radius + x, width).add_(column)
        patch.narrow(1, radius - x, width).sub_(column)
