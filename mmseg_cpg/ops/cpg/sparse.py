"""CPG error from boundary pixels only, forward and backward, in plain torch.

z: logits; P: their probabilities (Eq. 12); G, Ĝ: Sobel responses of label and P, ``edge_true`` and ``edge_pred``;
M: boundary entries (Eq. 13). Receptive pixels are those in the window of some boundary entry: no other pixel's logits
matter.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .._common import chunk_slices, compute_dtype, refuse_second_derivative, refuse_transforms
from .._morphology import dilate
from .._validation import check_ids
from .options import CPGOptions
from .sobel import sobel_numerators
from .targets import BoundaryTargets, targets_of_batch
from .tiles import TILE_PX, correlate, correlate_adjoint, tile_grid, tile_of_pixel, tile_pixels


def sparse_squared_error(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    class_weight: Tensor | None,
    targets: BoundaryTargets | None,
) -> tuple[Tensor, Tensor]:
    """See :class:`~mmseg_cpg.ops.cpg.implementations.SquaredError`. With precomputed targets ``label`` is not read.

    Differentiable once. Between forward and backward it keeps a few numbers per boundary entry and receptive pixel in
    addition to the logits; probabilities are recomputed.
    """
    refuse_transforms('the sparse CPG loss', "; implementation='dense' can be")
    num_classes = max(logits.shape[1], 2)
    if targets is None:
        targets = targets_of_batch(label, options, num_classes)
    else:
        check_ids('class ids of the label that targets were computed from', targets.class_index, num_classes)
    if logits.shape[1] == 1:
        targets = targets.foreground()
    error = _SquaredError.apply(logits, targets, options.use_sigmoid)
    if class_weight is not None:
        error = error * class_weight[targets.class_index.long()]
    error = error.new_zeros(label.numel()).index_add(0, targets.pixel, error).view(label.shape)
    return error, targets.edge_true.count_nonzero()


class _SquaredError(torch.autograd.Function):
    """M * (Ĝ - G)^2 of every boundary entry, summed over x and y: (entries,)."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: BoundaryTargets, use_sigmoid: bool) -> Tensor:
        pairs = _TileClassPairs(targets, logits.shape[1])
        receptive = [] if use_sigmoid else _receptive_pixels(targets)
        stats = None if use_sigmoid else _softmax_statistics(logits, receptive)
        # Both in numerators of S; divided once at the end.
        edge_pred = logits.new_empty(targets.edge_true.shape, dtype=compute_dtype(logits))
        for chunk, entries in pairs.chunks():
            pixel, element = pairs.gather_indices(chunk)
            response = correlate(_probability(logits, element, stats, pixel), targets.ksize)
            edge_pred[:, entries] = response.flatten(1).index_select(1, pairs.entry_slots(chunk, entries))
        residual = edge_pred.sub_(targets.edge_true).div_(_denominator(targets)).mul_(targets.edge_true != 0)
        ctx.save_for_backward(logits, residual)
        ctx.targets, ctx.use_sigmoid, ctx.pairs, ctx.receptive = targets, use_sigmoid, pairs, receptive
        return residual.square().sum(0)

    @staticmethod
    def backward(ctx, grad_error: Tensor) -> tuple[Tensor, None, None]:
        refuse_second_derivative('the sparse CPG loss', "; implementation='dense' can be differentiated twice")
        logits, residual = ctx.saved_tensors
        targets, pairs = ctx.targets, ctx.pairs
        grad_edge = residual * (grad_error * (2 / _denominator(targets)))
        # First dL/dP, then, in place, dL/dz.
        grad_logits = residual.new_zeros(logits.shape)
        for chunk, entries in pairs.chunks():
            pixel, element = pairs.gather_indices(chunk)
            grad = residual.new_zeros(2, TILE_PX, TILE_PX, element.shape[-1])
            grad.flatten(1).index_copy_(1, pairs.entry_slots(chunk, entries), grad_edge[:, entries])
            grad = correlate_adjoint(grad, targets.ksize)
            if ctx.use_sigmoid:
                probability = _probability(logits, element)
                # Where dL/dP is 0, dL/dz is 0 even if P is NaN.
                grad = torch.where(grad == 0, grad, grad * probability * (1 - probability))
            grad_logits.view(-1).index_add_(0, element.view(-1), grad.view(-1))
        for image, pixel in enumerate(ctx.receptive):
            _softmax_backward_(grad_logits[image], logits[image], pixel)
        return grad_logits.to(logits.dtype), None, None


class _TileClassPairs:
    """The pairs of a tile and a class that has boundary entries in it, and the entries of each pair."""

    def __init__(self, targets: BoundaryTargets, num_classes: int) -> None:
        _, self._height, self._width = targets.shape
        self._num_classes, self._halo_px = num_classes, targets.ksize // 2
        tile, position = tile_of_pixel(targets.pixel, self._height, self._width)
        # Targets are sorted by tile, then class.
        pair, pair_of_entry, counts = torch.unique_consecutive(
            tile.long() * num_classes + targets.class_index, return_inverse=True, return_counts=True
        )
        self._tile = pair.div(num_classes, rounding_mode='floor')
        self._class_index = pair - self._tile * num_classes
        self._position, self._pair_of_entry = position.to(torch.uint8), pair_of_entry.int()
        self._chunks = chunk_slices(len(pair), (TILE_PX + 2 * self._halo_px) ** 2, pair.device)
        ends = counts.cumsum(0)[[chunk.stop - 1 for chunk in self._chunks]].tolist() if len(pair) else [0]
        self._entries = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        """Slices of the pairs, each with the slice of their entries."""
        return zip(self._chunks, self._entries, strict=True)

    def gather_indices(self, chunk: slice) -> tuple[Tensor, Tensor]:
        """Flat indices into (B, H, W) and into (B, C, H, W) of the pixels under each pair's tile and halo.

        Returns:
            Two (patch rows, patch columns, pairs) int64 tensors.
        """
        tile, height, width = self._tile[chunk], self._height, self._width
        rows, columns = tile_grid(height, width)
        image = tile.div(rows * columns, rounding_mode='floor')
        pixel = tile_pixels(tile, height, width, self._halo_px)
        return pixel, pixel + (image * (self._num_classes - 1) + self._class_index[chunk]) * (height * width)

    def entry_slots(self, chunk: slice, entries: slice) -> Tensor:
        """Flat indices of a chunk's entries into (TILE_PX, TILE_PX, pairs of the chunk)."""
        pair = self._pair_of_entry[entries] - chunk.start
        return self._position[entries].long() * (chunk.stop - chunk.start) + pair


def _receptive_pixels(targets: BoundaryTargets) -> tuple[Tensor, ...]:
    """Of each image, the sorted indices (into H*W) of the pixels in some boundary window."""
    mask = dilate(targets.mask(), targets.ksize).flatten(1)
    return mask.nonzero()[:, 1].split(mask.sum(1).tolist())


def _softmax_statistics(logits: Tensor, receptive: tuple[Tensor, ...]) -> Tensor:
    """max(z) and log(sum(exp(z - max(z)))) over the classes at receptive pixels, (2, B*H*W), 0 elsewhere.

    They stay separate: at |z| = 1000 float32 would keep only three digits of exp(z - their sum).
    """
    stats = logits.new_zeros(2, len(logits), logits.shape[2] * logits.shape[3], dtype=compute_dtype(logits))
    for image, pixels in enumerate(receptive):
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
