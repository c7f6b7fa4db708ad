"""CPG error from boundary pixels only, forward and backward, in plain torch.

z: logits; P: their probabilities (Eq. 12); G, Ĝ: Sobel responses of label and P, ``edge_true`` and ``edge_pred``;
M: boundary entries (Eq. 13). Receptive pixels are those in the window of some boundary entry: no other pixel's logits
matter.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _memory
from .._common import chunk_slices, compute_dtype, flat_nonzero, refuse_second_derivative, refuse_transforms
from .._morphology import dilate
from .._threads import parallel_map
from .options import CPGOptions
from .pairs import Pairs, entry_slices, take_flat
from .targets import BoundaryTargets, targets_of_batch


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
    if targets is None:
        targets = targets_of_batch(label, options, max(logits.shape[1], 2))
    if logits.shape[1] == 1:
        targets = targets.foreground()
    return _SquaredError.apply(logits, targets, class_weight, options.use_sigmoid)


class _Part(NamedTuple):
    """What forward keeps for backward, for some boundary entries."""

    pairs: Pairs
    residual: Tensor


class _SquaredError(torch.autograd.Function):
    """The sums over classes and directions of class_weight * M * (Ĝ - G)^2, (B, H, W); and of M, scalar."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: BoundaryTargets, class_weight: Tensor | None, use_sigmoid: bool
    ) -> tuple[Tensor, Tensor]:
        dtype, device = compute_dtype(logits), logits.device
        receptive = [] if use_sigmoid else _receptive_pixels(targets)
        stats = None if use_sigmoid else _softmax_statistics(logits, receptive)
        # Noise-like labels have more entries than logits: backward recomputes what it needs.
        keeps = ctx.needs_input_grad[0] and 2 * len(targets) < logits.numel()

        def compute(entries: slice) -> tuple[Tensor, Tensor, Tensor, _Part | None]:
            pairs = Pairs(targets, entries, logits.shape[1])
            residual = pairs.residual(_probability(logits, stats, *pairs.gather_indices()))
            error = residual.square().sum(0)
            if class_weight is not None:
                error *= class_weight.index_select(0, targets.class_index[entries].int())
            count = targets.edge_true[:, entries].count_nonzero()
            return targets.pixel[entries], error, count, _Part(pairs, residual) if keeps else None

        error = _memory.zeros((math.prod(targets.shape),), dtype, device)
        num_entries = torch.zeros((), dtype=torch.int64, device=device)
        parts = []
        for pixel, of_entries, count, part in parallel_map(compute, _entry_parts(targets), device):
            error.index_add_(0, pixel, of_entries)
            num_entries += count
            parts.append(part)
        ctx.save_for_backward(logits, class_weight, None if keeps else stats)
        ctx.targets, ctx.use_sigmoid, ctx.parts, ctx.receptive = targets, use_sigmoid, parts, receptive
        ctx.mark_non_differentiable(num_entries)
        return error.view(targets.shape), num_entries

    @staticmethod
    def backward(ctx: Any, grad_error: Tensor, _: None) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative('the sparse CPG loss', "; implementation='dense' can be differentiated twice")
        logits, class_weight, stats = ctx.saved_tensors
        targets, grad_error = ctx.targets, grad_error.contiguous()
        # First dL/dP, then, in place, dL/dz.
        grad_logits = _memory.zeros(logits.shape, grad_error.dtype, grad_error.device)

        def compute(numbered: tuple[slice, _Part | None]) -> tuple[Tensor, Tensor]:
            entries, part = numbered
            pairs = Pairs(targets, entries, logits.shape[1]) if part is None else part.pairs
            pixel, element = pairs.gather_indices()
            residual = pairs.residual(_probability(logits, stats, pixel, element)) if part is None else part.residual
            factor = take_flat(grad_error, targets.pixel[entries]) * 2
            if class_weight is not None:
                factor *= class_weight.index_select(0, targets.class_index[entries].int())
            grad = pairs.residual_backward(residual * factor)
            if ctx.use_sigmoid:
                probability = _probability(logits, None, pixel, element)
                # Where dL/dP is 0, dL/dz is 0 even if P is NaN.
                grad = torch.where(grad == 0, grad, grad * probability * (1 - probability))
            return element, grad

        # Halos overlap. One thread adds them, in order, so that the result is always the same.
        numbered = zip(_entry_parts(targets), ctx.parts, strict=True)
        for element, grad in parallel_map(compute, numbered, logits.device):
            grad_logits.view(-1).index_add_(0, element.view(-1), grad.view(-1))
        softmax_backward = partial(_softmax_backward_, grad_logits, logits)
        for _ in parallel_map(softmax_backward, _column_parts(logits, ctx.receptive), logits.device):
            pass
        return grad_logits.to(logits.dtype), None, None, None


def _entry_parts(targets: BoundaryTargets) -> list[slice]:
    """The boundary entries in parts for threads."""
    return entry_slices(slice(0, len(targets)), 2**15 if targets.device.type == 'cpu' else 2**21)


def _receptive_pixels(targets: BoundaryTargets) -> list[Tensor]:
    """Of each image, the sorted indices (into H*W) of the pixels in some boundary window."""
    return list(
        parallel_map(lambda mask: flat_nonzero(dilate(mask[None], targets.ksize)), targets.mask(), targets.device)
    )


def _column_parts(logits: Tensor, receptive: list[Tensor]) -> list[tuple[int, Tensor]]:
    """The receptive pixels in parts for threads: index of the image, and pixel indices."""
    return [
        (image, pixels[chunk])
        for image, pixels in enumerate(receptive)
        for chunk in chunk_slices(len(pixels), logits.shape[1], logits.device)
    ]


def _softmax_statistics(logits: Tensor, receptive: list[Tensor]) -> Tensor:
    """max(z) and log(sum(exp(z - max(z)))) over the classes at receptive pixels, (2, B*H*W), 0 elsewhere.

    They stay separate: at |z| = 1000 float32 would keep only three digits of exp(z - their sum).
    """
    stats = _memory.zeros((2, len(logits), logits.shape[2] * logits.shape[3]), compute_dtype(logits), logits.device)

    def compute(part: tuple[int, Tensor]) -> None:
        image, pixel = part
        column = _gather_columns(logits[image], pixel)
        highest = column.amax(0)
        stats[0, image].index_copy_(0, pixel, highest)
        stats[1, image].index_copy_(0, pixel, column.sub_(highest).exp_().sum(0).log_())

    for _ in parallel_map(compute, _column_parts(logits, receptive), logits.device):
        pass
    return stats.flatten(1)


def _probability(logits: Tensor, stats: Tensor | None, pixel: Tensor, element: Tensor) -> Tensor:
    """Softmax of single elements of the logits from the statistics of their pixels; without statistics, the sigmoid."""
    logit = take_flat(logits, element).to(compute_dtype(logits))
    if stats is None:
        return logit.sigmoid_()
    highest, log_sum = stats
    return logit.sub_(take_flat(highest, pixel)).sub_(take_flat(log_sum, pixel)).exp_()


def _softmax_backward_(grad: Tensor, logits: Tensor, part: tuple[int, Tensor]) -> None:
    """Turn the gradient of P into that of z, in place, at some pixels of an image."""
    image, pixel = part
    probability = _gather_columns(logits[image], pixel).softmax(0)
    column = _gather_columns(grad[image], pixel)
    column.sub_((probability * column).sum(0)).mul_(probability)
    grad[image].flatten(1).scatter_(1, pixel.expand_as(column), column)


def _gather_columns(image: Tensor, pixel: Tensor) -> Tensor:
    """All classes of the given pixels of one image (C, H, W), as (C, n)."""
    return image.flatten(1).gather(1, pixel.expand(len(image), -1)).to(compute_dtype(image))
