"""CPG error from boundary pixels only, forward and backward, in plain torch.

z: logits; P: their probabilities (Eq. 12); G, M: gradients and boundary entries of the label (Eq. 13), as targets;
Ĝ = S * P. Support: the pixels that some boundary window reads; all others have no part in the loss. A pair is a tile
and a class that has boundary entries in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .boundary import BoundaryTargets, window_extremum
from .dtypes import compute_dtype
from .kernels import sobel_numerators
from .tiles import TILE_PX, correlate, correlate_adjoint, tile_grid, tile_of_pixel, tile_pixels


def sparse_squared_error(logits: Tensor, targets: BoundaryTargets, use_sigmoid: bool) -> Tensor:
    r"""M \cdot (Ĝ - G)^2 of every boundary entry, summed over x and y (Eq. 14, 15).

    Differentiable once with respect to ``logits``. Between forward and backward it holds a few numbers per boundary
    pixel besides the logits; probabilities are computed anew.

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
        lse = None if use_sigmoid else _log_sum_exp(logits, support)
        gradient = logits.new_empty(2, TILE_PX, TILE_PX, len(pairs), dtype=compute_dtype(logits))
        for chunk in pairs.chunks():
            pixel, element = pairs.indices(chunk)
            gradient[..., chunk] = correlate(_probability(logits, element, lse, pixel), targets.ksize)
        error = gradient.flatten(1).index_select(1, pairs.entry)
        error.sub_(targets.gradient).div_(_denominator(targets)).mul_(targets.gradient != 0)
        ctx.save_for_backward(logits, error)
        ctx.targets, ctx.use_sigmoid, ctx.pairs, ctx.support = targets, use_sigmoid, pairs, support
        return error.square().sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None]:
        logits, error = ctx.saved_tensors
        pairs, ksize = ctx.pairs, ctx.targets.ksize
        gradient = error.new_zeros(2, TILE_PX, TILE_PX, len(pairs))
        grad_error = error * (grad_output * (2 / _denominator(ctx.targets)))
        gradient.flatten(1).index_copy_(1, pairs.entry, grad_error)
        grad_logits = error.new_zeros(logits.shape)
        for chunk in pairs.chunks():
            pixel, element = pairs.indices(chunk)
            grad = correlate_adjoint(gradient[..., chunk], ksize)
            if ctx.use_sigmoid:
                probability = _probability(logits, element)
                # Unread pixels have gradient 0, whatever their logits are.
                grad = torch.where(grad == 0, grad, grad * probability * (1 - probability))
            grad_logits.view(-1).index_add_(0, element.view(-1), grad.view(-1))
        for image, pixel in enumerate(ctx.support):
            _softmax_backward_(grad_logits[image], logits[image], pixel)
        return grad_logits.to(logits.dtype), None, None


class _Pairs:
    """The (tile, class) pairs of the boundary entries.

    Attributes:
        entry: (len(targets),) where each boundary entry lies in a flattened (TILE_PX, TILE_PX, n) tensor.
    """

    def __init__(self, targets: BoundaryTargets, num_classes: int) -> None:
        _, self._height, self._width = targets.shape
        self._num_classes, self._halo_px = num_classes, targets.ksize // 2
        tile, position = tile_of_pixel(targets.pixel, self._height, self._width)
        # Targets are sorted by tile, then class.
        pair, pair_of_entry = torch.unique_consecutive(
            tile.long() * num_classes + targets.category.long(), return_inverse=True
        )
        self._tile = pair.div(num_classes, rounding_mode='floor')
        self._category = pair - self._tile * num_classes
        self.entry = position.long() * len(pair) + pair_of_entry

    def __len__(self) -> int:
        return len(self._tile)

    def chunks(self) -> Iterator[slice]:
        step = max(1, _chunk_elements(self._tile) // (TILE_PX + 2 * self._halo_px) ** 2)
        return (slice(start, start + step) for start in range(0, len(self), step))

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
    mask = torch.zeros(targets.shape, dtype=torch.uint8, device=targets.pixel.device)
    mask.view(-1)[targets.pixel.long()] = 1
    mask = window_extremum(torch.maximum, mask, targets.ksize).flatten(1)
    return mask.nonzero()[:, 1].split(mask.sum(1).tolist())


def _log_sum_exp(logits: Tensor, support: tuple[Tensor, ...]) -> Tensor:
    """log(sum(exp(z))) over the classes at support pixels, (B*H*W,) float64, 0 elsewhere.

    In float32 it would lose, at |z| = 1000, all but three digits of exp(z - lse).
    """
    lse = logits.new_zeros(len(logits), logits.shape[2] * logits.shape[3], dtype=torch.float64)
    for image, pixels in enumerate(support):
        for pixel in _column_chunks(pixels, logits):
            column = _gather_columns(logits[image], pixel)
            highest = column.amax(0)
            lse[image, pixel] = column.sub_(highest).exp_().sum(0).log_().double() + highest
    return lse.view(-1)


def _probability(logits: Tensor, element: Tensor, lse: Tensor | None = None, pixel: Tensor | None = None) -> Tensor:
    """Softmax of single elements from their pixels' log-sum-exp, or their sigmoid where there is none."""
    logit = logits.take(element)
    if lse is None:
        return logit.to(compute_dtype(logits)).sigmoid_()
    return lse.take(pixel).neg_().add_(logit).to(compute_dtype(logits)).exp_()


def _softmax_backward_(grad: Tensor, logits: Tensor, pixels: Tensor) -> None:
    """Turn the gradient of P into that of z, in place, at the given pixels of one image (C, H, W)."""
    flat = grad.flatten(1)
    for pixel in _column_chunks(pixels, logits):
        probability = _gather_columns(logits, pixel).softmax(0)
        column = _gather_columns(grad, pixel)
        column.sub_((probability * column).sum(0)).mul_(probability)
        flat.scatter_(1, pixel.expand_as(column), column)


def _gather_columns(image: Tensor, pixel: Tensor) -> Tensor:
    """All classes of the given pixels of one image (C, H, W), as (C, n)."""
    return image.flatten(1).gather(1, pixel.expand(len(image), -1)).to(compute_dtype(image))


def _column_chunks(pixels: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
    return pixels.split(max(1, _chunk_elements(logits) // logits.shape[-3]))


def _chunk_elements(tensor: Tensor) -> int:
    """How many elements to work on at a time: temporaries stay in a CPU's cache, and small beside the logits."""
    return 2**18 if tensor.device.type == 'cpu' else 2**24


def _denominator(targets: BoundaryTargets) -> int:
    return sobel_numerators(targets.ksize)[1]
