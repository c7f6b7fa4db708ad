"""Square tiles of an image batch, and the k x k correlation on them.

Boundaries are thin and patchy. Cut out as small tiles with a halo, they become dense blocks on which the correlation is
a handful of vector operations, far faster than gathering k x k neighbours for every boundary pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels import sobel_numerators

TILE_PX = 8


def tile_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover an image."""
    return -(-height // TILE_PX), -(-width // TILE_PX)


def tile_of_pixel(pixel: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Split flat pixel indices (into B*H*W) into tile indices (image, row, column order) and raster positions in it."""
    rows, columns = tile_grid(height, width)
    line = pixel.div(width, rounding_mode='floor')
    x = pixel - line * width
    image = line.div(height, rounding_mode='floor')
    y = line - image * height
    tile_y, tile_x = y.div(TILE_PX, rounding_mode='floor'), x.div(TILE_PX, rounding_mode='floor')
    position = (y - tile_y * TILE_PX) * TILE_PX + x - tile_x * TILE_PX
    return (image * rows + tile_y) * columns + tile_x, position


def tile_pixels(tile: Tensor, height: int, width: int, halo_px: int = 0) -> Tensor:
    """Flat pixel indices (into B*H*W) under each tile and its halo.

    Coordinates outside the image are clamped to it, which is replicate padding (Eq. 5).

    Args:
        tile: (n,) int64 tile indices.
        height, width: Image size in pixels.
        halo_px: Extra pixels on each side.

    Returns:
        (TILE_PX + 2 * halo_px, TILE_PX + 2 * halo_px, n) int64.
    """
    rows, columns = tile_grid(height, width)
    line = tile.div(columns, rounding_mode='floor')
    image = line.div(rows, rounding_mode='floor')
    offset = torch.arange(-halo_px, TILE_PX + halo_px, device=tile.device)[:, None]
    y = (offset + (line - image * rows) * TILE_PX).clamp_(0, height - 1)
    x = (offset + (tile - line * columns) * TILE_PX).clamp_(0, width - 1)
    return ((image * height + y) * width)[:, None] + x


def correlate(patch: Tensor, ksize: int) -> Tensor:
    """x and y gradients of tiles with a halo, times the kernels' denominator (Eq. 5 with the numerators of Eq. 8, 9).

    Args:
        patch: (TILE_PX + ksize - 1, TILE_PX + ksize - 1, n), integer (exact as long as the result fits the dtype: sums
            of integers that overflow on the way come back) or floating point.

    Returns:
        (2, TILE_PX, TILE_PX, n) in the dtype of ``patch``.
    """
    gradient = patch.new_zeros(2, TILE_PX, TILE_PX, patch.shape[2])
    for y, x, weight_x, weight_y in _taps(ksize):
        window = patch[y : y + TILE_PX, x : x + TILE_PX]
        gradient[0].add_(window, alpha=weight_x)
        gradient[1].add_(window, alpha=weight_y)
    return gradient


def correlate_adjoint(gradient: Tensor, ksize: int) -> Tensor:
    """The transpose of :func:`correlate`: from (2, TILE_PX, TILE_PX, n) back to tiles with a halo."""
    patch_px = TILE_PX + ksize - 1
    patch = gradient.new_zeros(patch_px, patch_px, gradient.shape[3])
    for y, x, weight_x, weight_y in _taps(ksize):
        window = patch[y : y + TILE_PX, x : x + TILE_PX]
        window.add_(gradient[0], alpha=weight_x).add_(gradient[1], alpha=weight_y)
    return patch


def _taps(ksize: int):
    # Zero weights stay in: a NaN anywhere in the k x k window reaches the gradient, as it does in a convolution.
    rows, _ = sobel_numerators(ksize)
    for y in range(ksize):
        for x in range(ksize):
            yield y, x, rows[y][x], rows[x][y]
