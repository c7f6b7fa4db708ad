"""The boundary entries as tiles, on which the sparse and the fused implementation compute.

A pair is a tile and a class that has boundary entries in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._common import flat_nonzero
from .sobel import correlate, correlate_adjoint, sobel_numerators
from .targets import BoundaryTargets
from .tiles import TILE_PX, tile_grid, tile_of_pixel, tile_pixels


class Pairs:
    """The pairs of some boundary entries, and the steps between probabilities and residuals.

    Args:
        targets: Of a (B, H, W) label, ``class_index`` in [0, num_classes).
        entries: Slice of the entries; it may cut the first and the last pair.
        num_classes: C of the logits.

    Attributes:
        entries: As given.
        pair: Each pair's tile * num_classes + class.
    """

    def __init__(self, targets: BoundaryTargets, entries: slice, num_classes: int) -> None:
        batch, height, width = targets.shape
        fits = batch * num_classes * height * width <= torch.iinfo(torch.int32).max
        tile, position = tile_of_pixel(targets.pixel[entries], height, width)
        self.entries, self._edge_true = entries, targets.edge_true[:, entries]
        self._ksize = targets.ksize
        # Entries are sorted by tile, then class.
        pair = tile.to(torch.int32 if fits else torch.int64).mul_(num_classes).add_(targets.class_index[entries])
        is_first = torch.ones_like(pair, dtype=torch.bool)
        torch.ne(pair[1:], pair[:-1], out=is_first[1:])
        self.pair = pair.index_select(0, flat_nonzero(is_first))
        self._slots = position.long().mul_(len(self.pair)).add_(is_first.cumsum(0)).sub_(1)
        self._shape, self._num_classes = targets.shape, num_classes

    def gather_indices(self) -> tuple[Tensor, Tensor]:
        """What :func:`indices_of_pairs` returns for these pairs."""
        return indices_of_pairs(self.pair, self._shape, self._num_classes, self._ksize)

    def residual(self, probability: Tensor) -> Tensor:
        r"""M \cdot (Ĝ - G) of the entries (Eq. 14), (2, n), from the probabilities under tiles and halos."""
        edge_pred = correlate(probability, self._ksize).flatten(1).index_select(1, self._slots)
        return edge_pred.sub_(self._edge_true).div_(self._denominator).mul_(self._edge_true.bool())

    def residual_backward(self, grad_residual: Tensor) -> Tensor:
        """The gradient of the probabilities under tiles and halos from that of :meth:`residual`'s result."""
        grad = grad_residual.new_zeros(2, TILE_PX, TILE_PX, len(self.pair))
        grad.flatten(1).index_copy_(1, self._slots, grad_residual / self._denominator)
        return correlate_adjoint(grad, self._ksize)

    @property
    def _denominator(self) -> int:
        return sobel_numerators(self._ksize)[1]


def indices_of_pairs(pair: Tensor, shape: tuple[int, ...], num_classes: int, ksize: int) -> tuple[Tensor, Tensor]:
    """Flat indices into (B, H, W) and into (B, C, H, W) of the pixels under each pair's tile and halo.

    Args:
        pair: As in :class:`Pairs`.
        shape: (B, H, W).
        num_classes: C.
        ksize: Of the targets.

    Returns:
        Two (patch rows, patch columns, pairs) integer tensors.
    """
    _, height, width = shape
    rows, columns = tile_grid(height, width)
    tile = pair.div(num_classes, rounding_mode='floor')
    class_index = pair - tile * num_classes
    image = tile.div(rows * columns, rounding_mode='floor')
    pixel = tile_pixels(tile, height, width, ksize // 2)
    return pixel, pixel + (image * (num_classes - 1) + class_index) * (height * width)


def entry_slices(entries: slice, number: int) -> list[slice]:
    """Split a slice of boundary entries into slices of at most ``number``."""
    return [slice(start, min(start + number, entries.stop)) for start in range(entries.start, entries.stop, number)]


def take_flat(values: Tensor, index: Tensor) -> Tensor:
    """Elements of the flattened values. ``take`` is slower, but does not copy strided values."""
    if values.is_contiguous():
        return values.view(-1).index_select(0, index.view(-1)).view(index.shape)
    return values.take(index.long())
