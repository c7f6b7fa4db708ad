"""CPG error from boundary pixels only, forward and backward, in plain torch.

z: logits; P: their probabilities (Eq. 12); G, M: gradients and boundary entries of the label (Eq. 13), as targets;
Ĝ = S * P. Support: the pixels that some boundary window reads; all others have no part in the loss. A pair is a tile
and a class that has boundary entries in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .._autograd import refuse_second_derivative
from .._chunks import chunk_slices
from .._dtypes import compute_dtype
from .sobel import sobel_numerators
from .targets import BoundaryTargets, dilate
from .tiles import TILE_PX, correlate, correlate_adjoint, tile_grid, tile_of_pixel, tile_pixels


def sparse_squared_error(logits: Tensor, targets: BoundaryTargets, use_sigmoid: bool) -> Tensor:
    r"""M \cdot (Ĝ - G)^2 of every boundary entry, summed over x and y (Eq. 14, 15).

    Differentiable once with respect to ``logits``. Between forward and backward it holds a few numbers per boundary
    entry and support pixel besides the logits; probabilities are computed anew.

    Args:
        logits: (B, C, H, W), floating point.
        targets: Of a (B, H, W) label, ``category`` in [0, C).
        use_sigmoid: P is sigmoid(z) instead of softmax(z).

    Returns:
        (len(targets),) float32, or float64 for float64 logits.
    """
    return _SquaredError.apply(logits, targets, use_sigmoid)


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, targets: BoundaryTargets, use_sigmoid: bool) -> Tensor:
        pairs = _Pairs(targets, logits.shape[1])
        support = [] if use_sigmoid else _support(targets)
        stats = None if use_sigmoid else _softmax_statistics(logits, support)
        error = logits.new_empty(targets.gradient.shape, dtype=compute_dtype(logits))
        for chunk, entries in pairs.chunks():
            pixel, element = pairs.indices(chunk)
            gradient = correlate(_probability(logits, element, stats, pixel), targets.ksize)
            error[:, entries] = gradient.flatten(1).index_select(1, pairs.places(chunk, entries))
        error.sub_(targets.gradient).div_(_denominator(targets)).mul_(targets.gradient != 0)
        ctx.save_for_backward(logits, error)
        ctx.targets, ctx.use_sigmoid, ctx.pairs, ctx.support = targets, use_sigmoid, pairs, support
        return error.square().sum(0)

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        refuse_second_derivative('the sparse CPG loss', "; implementation='dense' can be differentiated twice")
        logits, error = ctx.saved_tensors
        targets, pairs = ctx.targets, ctx.pairs
        grad_error = error * (grad_output * (2 / _denominator(targets)))
        grad_logits = error.new_zeros(logits.shape)
        for chunk, entries in pairs.chunks():
            pixel, element = pairs.indices(chunk)
            grad = error.new_zeros(2, TILE_PX, TILE_PX, element.shape[-1])
            grad.flatten(1).index_copy_(1, pairs.places(chunk, entries), grad_error[:, entries])
            grad = correlate_adjoint(grad, targets.ksize)
            if ctx.use_sigmoid:
                probability = _probability(logits, element)
                # Unread pixels have gradient 0, whatever their logits are.
                grad = torch.where(grad == 0, grad, grad * probability * (1 - probability))
            grad_logits.view(-1).index_add_(0, element.view(-1), grad.view(-1))
        for image, pixel in enumerate(ctx.support):
            _softmax_backward_(grad_logits[image], logits[image], pixel)
        return grad_logits.to(logits.dtype), None, None


class _Pairs:
    """The (tile, class) pairs of the boundary entries, and the entries of each."""

    def __init__(self, targets: BoundaryTargets, num_classes: int) -> None:
        _, self._height, self._width = targets.shape
        self._num_classes, self._halo_px = num_classes, targets.ksize // 2
        tile, position = tile_of_pixel(targets.pixel, self._height, self._width)
        # Targets are sorted by tile, then class.
        pair, pair_of_entry, counts = torch.unique_consecutive(
            tile.long() * num_classes + targets.category, return_inverse=True, return_counts=True
        )
        self._tile = pair.div(num_classes, rounding_mode='floor')
        self._category = pair - self._tile * num_classes
        self._position, self._pair_of_entry = position.to(torch.uint8), pair_of_entry.int()
        self._chunks = chunk_slices(len(pair), (TILE_PX + 2 * self._halo_px) ** 2, pair.device)
        ends = counts.cumsum(0)[[chunk.stop - 1 for chunk in self._chunks]].tolist() if len(pair) else [0]
        self._entries = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        """Slices of the pairs, each with the slice of their entries."""
        return zip(self._chunks, self._entries, strict=True)

    def places(self, chunk: slice, entries: slice) -> Tensor:
        """Where the entries of a chunk lie in a flattened (TILE_PX, TILE_PX, pairs of the chunk) tensor."""
        pair = self._pair_of_entry[entries] - chunk.start
        return self._position[entries].long() * (chunk.stop - chunk.start) + pair

    def indices(self, chunk: slice) -> tuple[Tensor, Tensor]:
        """Where the pixels under each pair's tile and halo lie in (B, H, W) and in (B, C, H, W), both flattened.

        Returns:
            Two (patch rows, patch columns, pairs) int64 tensors.
        """
        tile, height, width = self._tile[chunk], self._height, self._width
        rows, columns = tile_grid(height, width)
        image = tile.div(rows * columns, rounding_mode='floor')
        pixel = tile_pixels(tile, height, width, self._halo_px)
        return pixel, pixel + (image * (self._num_classes - 1) + self._category[chunk]) * (height * width)


def _support(targets: BoundaryTargets) -> tuple[Tensor, ...]:
    """Of each image, the sorted pixel indices (into H*W) that boundary windows read."""
    mask = dilate(targets.mask(), targets.ksize).flatten(1)
    return mask.nonzero()[:, 1].split(mask.sum(1).tolist())


def _softmax_statistics(logits: Tensor, support: tuple[Tensor, ...]) -> Tensor:
    """max(z) and log(sum(exp(z - max(z)))) over the classes at support pixels, (2, B*H*W), 0 elsewhere.

    Apart, since their sum would lose, at |z| = 1000, all but three digits of exp(z - sum) in float32.
    """
    stats = logits.new_zeros(2, len(logits), logits.shape[2] * logits.shape[3], dtype=compute_dtype(logits))
    for image, pixels in enumerate(support):
        for chunk in chunk_slices(len(pixels), logits.shape[1], logits.device):
            pixel = pixels[chunk]
            column = _gather_columns(logits[image], pixel)
            highest = column.amax(0)
            stats[0, image, pixel] = highest
            stats[1, image, pixel] = column.sub_(highest).exp_().sum(0).log_()
    return stats.flatten(1)


def _probability(logits: Tensor, element: Tensor, stats: Tensor | None = None, pixel: Tensor | None = None) -> Tensor:
    """Softmax of single elements from their pixels' statistics, or their sigmoid where there are none."""
    logit = logits.take(element).to(compute_dtype(logits))
    if stats is None:
        return logit.sigmoid_()
    highest, log_sum = stats
    return logit.sub_(highest.take(pixel)).sub_(log_sum.take(pixel)).exp_()


def _softmax_backward_(grad: Tensor, logits: Tensor, pixels: Tensor) -> None:
    """Turn the gradient of P into that of z, in place, at the given pixels of one image (C, H, W)."""
    flat = grad.flatten(1)
    for chunk in chunk_slices(len(pixels), len(logits), logits.device):
        pixel = pixels[chunk]
        probability = _gather_columns(logits, pixel).softmax(0)
        column = _gather_columns(grad, pixel)
        column.sub_((probability * column).sum(0)).mul_(probability)
        flat.scatter_(1, pixel.expand_as(column), column)


def _gather_columns(image: Tensor, pixel: Tensor) -> Tensor:
    """All classes of the given pixels of one image (C, H, W), as (C, n)."""
    return image.flatten(1).gather(1, pixel.expand(len(image), -1)).to(compute_dtype(image))


def _denominator(targets: BoundaryTargets) -> int:
    return sobel_numerators(targets.ksize)[1]
