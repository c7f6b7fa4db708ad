"""Square tiles of a batch of images.

Boundaries are thin and patchy. Cut out as small tiles with a halo, they become dense blocks on which the correlation is
a few vector operations, far faster than gathering k x k neighbors for every boundary pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor

TILE_PX = 8
_TILE_BITS = 3


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
    # Shifts are much faster than divisions (benchmarks/micro.py).
    tile_y, tile_x = y >> _TILE_BITS, x >> _TILE_BITS
    position = ((y & (TILE_PX - 1)) << _TILE_BITS) | (x & (TILE_PX - 1))
    return (image * rows + tile_y) * columns + tile_x, position


def tile_pixels(tile: Tensor, height: int, width: int, halo_px: int = 0) -> Tensor:
    """Flat pixel indices (into B*H*W) under each tile and its halo.

    Coordinates outside the image are clamped to it, which is replicate padding (Eq. 5).

    Args:
        tile: (n,) tile indices, in a dtype that can represent the pixel indices.
        height, width: Image size in pixels.
        halo_px: Extra pixels on each side.

    Returns:
        (TILE_PX + 2 * halo_px, TILE_PX + 2 * halo_px, n) in the dtype of ``tile``.
    """
    rows, columns = tile_grid(height, width)
    line = tile.div(columns, rounding_mode='floor')
    image = line.div(rows, rounding_mode='floor')
    offset = torch.arange(-halo_px, TILE_PX + halo_px, dtype=tile.dtype, device=tile.device)[:, None]
    y = (offset + (line - image * rows) * TILE_PX).clamp_(0, height - 1)
    x = (offset + (tile - line * columns) * TILE_PX).clamp_(0, width - 1)
    return ((image * height + y) * width)[:, None] + x


def tile_origin(tile: Tensor, height: int, width: int) -> Tensor:
    """Flat index (into B*H*W) of each tile's first pixel."""
    rows, columns = tile_grid(height, width)
    line = tile.div(columns, rounding_mode='floor')
    image = line.div(rows, rounding_mode='floor')
    return (image * height + (line - image * rows) * TILE_PX) * width + (tile - line * columns) * TILE_PX


def pad_to_tiles(values: Tensor) -> Tensor:
    """Replicate padding (Eq. 5) of (B, H, W) to whole tiles and by one more tile on every side."""
    for dim in (1, 2):
        length = values.shape[dim]
        first, last = values.narrow(dim, 0, 1), values.narrow(dim, length - 1, 1)
        size = [*values.shape]
        size[dim] = TILE_PX
        first = first.expand(size)
        size[dim] += -length % TILE_PX
        values = torch.cat([first, values, last.expand(size)], dim)
    return values


def mask_of_tiles(mask: Tensor) -> Tensor:
    """(B, H, W) bool in whole tiles as (B * tiles, TILE_PX^2)."""
    batch, height, width = mask.shape
    assert height % TILE_PX == width % TILE_PX == 0, 'eight bool pixels are one 64-bit word'
    words = mask.view(torch.int64).view(batch, height // TILE_PX, TILE_PX, width // TILE_PX)
    return words.transpose(2, 3).reshape(-1).view(torch.bool).view(-1, TILE_PX**2)


def tile_patches(padded: Tensor, tile: Tensor, halo_px: int) -> Tensor:
    """Cut tiles with a halo of up to TILE_PX from the result of :func:`pad_to_tiles`.

    The lines of a patch are cut from three tiles side by side, of which the middle one is the tile itself::

        |  left  |  tile  | right  |    3 * TILE_PX pixels of each line
             |  a patch line  |         TILE_PX + 2 * halo_px of them

    TILE_PX pixels are a few 64-bit words. Gathering words instead of pixels is many times faster (benchmarks/micro.py).

    Args:
        padded: (B, H, W) in whole tiles, integer.
        tile: (n,) tile indices.
        halo_px: Extra pixels on each side.

    Returns:
        (TILE_PX + 2 * halo_px, TILE_PX + 2 * halo_px, n) in the dtype of ``padded``.
    """
    _, height, width = padded.shape
    rows, columns = height // TILE_PX - 2, width // TILE_PX - 2  # of tiles, without the padding
    tile = tile.int()  # index arithmetic is faster in int32
    row_in_batch = tile.div(columns, rounding_mode='floor')
    image = row_in_batch.div(rows, rounding_mode='floor')
    row, column = row_in_batch - image * rows, tile - row_in_batch * columns

    offset = torch.arange(-halo_px, TILE_PX + halo_px, dtype=tile.dtype, device=tile.device)[:, None]
    line = image * height + (row + 1) * TILE_PX + offset  # (patch lines, n), in all images together
    words_per_tile = padded.element_size()  # 64-bit words of TILE_PX pixels
    left_tile = (line * (columns + 2) + column) * words_per_tile
    word = left_tile[..., None] + torch.arange(3 * words_per_tile, dtype=tile.dtype, device=tile.device)
    three_tiles = padded.view(torch.int64).view(-1).index_select(0, word.view(-1)).view(padded.dtype)
    three_tiles = three_tiles.view(*line.shape, 3 * TILE_PX)
    return three_tiles[..., TILE_PX - halo_px : 2 * TILE_PX + halo_px].transpose(1, 2).contiguous()
