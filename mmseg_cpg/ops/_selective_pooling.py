"""Cross-entropy of standard scores pooled over neighbors of the same class, forward and backward.

Guo et al., arXiv 1802.08290, Eq. 2 to 4. x: standard scores of a pixel's logits z over the classes, (z - mean) /
standard deviation; f: pooled scores; mu: 1 where a neighbor has the center's class; omega: weights by chessboard
distance; xi: number of neighbors with mu = 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._common import chunk_slices, compute_dtype, refuse_second_derivative

VOID = -1
# Added to the variance, as in layer normalization, so that constant logits have a finite, usable gradient.
EPSILON = 1e-5
# Logits are clamped to this far below the highest of the pixel, so that their squares do not overflow.
_FURTHEST = 1e15


def pooled_cross_entropy(logits: Tensor, label: Tensor, ksize: int) -> Tensor:
    r"""L^S of Eq. 4, -log softmax(f) at the label, with f = 1/xi * sum(mu * omega * x), omega = 2^(1 - distance).

    Neighbors outside the image are excluded from the sum and from xi. Differentiable once. The window is summed shift
    by shift, in place and in chunks of an image that fit the cache. log softmax(f) is saved for backward; standard
    scores are recomputed.

    Args:
        logits: (B, C, H, W), floating point.
        label: (B, H, W) int64, class ids or ``VOID``. Void pixels have L^S = 0 and do not affect other pixels.
        ksize: Odd window size.

    Returns:
        (B, H, W) float32, or float64 for float64 logits.
    """
    return _PooledCrossEntropy.apply(logits, label, ksize)


class _PooledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, ksize: int) -> Tensor:
        log_probability = logits.new_empty(logits.shape, dtype=compute_dtype(logits))
        scores, error = log_probability.new_empty(logits.shape[1:]), log_probability.new_empty(label.shape)
        inverse_count = _count_same(label.int(), ksize).to(error.dtype).reciprocal_()
        for image in range(len(logits)):
            for pixels, part, _ in _standard_scores(logits[image], label[image]):
                scores.flatten(1)[:, pixels] = part
            _add_up_windows(log_probability[image], scores, label[image].int(), ksize)
            for pixels in _pixel_chunks(scores):
                part = log_probability[image].flatten(1)[:, pixels].mul_(inverse_count[image].flatten()[pixels])
                part.copy_(part.log_softmax(0))
                class_index = label[image].flatten()[pixels].clamp(min=0)[None]
                error[image].view(-1)[pixels] = part.gather(0, class_index)[0].neg_()
        error.masked_fill_(label == VOID, 0)
        ctx.save_for_backward(logits, label, log_probability, inverse_count)
        ctx.ksize = ksize
        return error

    @staticmethod
    def backward(ctx: Any, grad_error: Tensor) -> tuple[Tensor, None, None]:
        refuse_second_derivative('locally_adaptive_loss')
        logits, label, log_probability, inverse_count = ctx.saved_tensors
        # Gradient of L^S with respect to the sum over the window, without the factor softmax(f) - y.
        factor = (grad_error * inverse_count).masked_fill_(label == VOID, 0)
        grad_logits = torch.empty_like(log_probability)
        grad_pooled = log_probability.new_empty(logits.shape[1:])
        for image in range(len(logits)):
            for pixels in _pixel_chunks(grad_pooled):
                part = log_probability[image].flatten(1)[:, pixels].exp()
                class_index = label[image].flatten()[pixels].clamp(min=0)[None]
                part.scatter_(0, class_index, part.gather(0, class_index).sub_(1))
                torch.mul(part, factor[image].flatten()[pixels], out=grad_pooled.flatten(1)[:, pixels])
            # mu and omega are symmetric in center and neighbor, so the sum over windows is its own transpose.
            _add_up_windows(grad_logits[image], grad_pooled, label[image].int(), ctx.ksize)
            for pixels, scores, inverse_deviation in _standard_scores(logits[image], label[image]):
                part = grad_logits[image].flatten(1)[:, pixels]
                part.sub_(part.mean(0)).sub_(scores.mul_((part * scores).mean(0))).mul_(inverse_deviation)
        return grad_logits.to(logits.dtype), None, None


def _pixel_chunks(image: Tensor) -> list[slice]:
    """Slices of the pixels of an image (C, H, W)."""
    return chunk_slices(image.shape[1] * image.shape[2], len(image), image.device)


def _standard_scores(logits: Tensor, label: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield slices of the pixels of an image (C, H, W), with x (C, n), 0 at void pixels, and 1 / deviation (n,)."""
    flat, void = logits.flatten(1), (label == VOID).flatten()
    for pixels in _pixel_chunks(logits):
        scores = torch.where(void[pixels], 0, flat[:, pixels]).to(compute_dtype(logits))
        scores.sub_(scores.amax(0)).clamp_(min=-_FURTHEST)
        scores.sub_(scores.mean(0))
        inverse_deviation = scores.square().mean(0).add_(EPSILON).rsqrt_()
        yield pixels, scores.mul_(inverse_deviation), inverse_deviation


def _half_window(ksize: int) -> Iterator[tuple[int, int]]:
    """Row and column offsets of the half of the window after its center; the other half is its mirror image."""
    radius = ksize // 2
    yield from ((0, x) for x in range(1, radius + 1))
    yield from ((y, x) for y in range(1, radius + 1) for x in range(-radius, radius + 1))


def _pairs(values: Tensor, rows: slice, y: int, x: int) -> tuple[Tensor, Tensor]:
    """Views of (..., H, W): the pixels in ``rows`` that have a neighbor at offset (y, x), y >= 0, and the neighbors."""
    height, width = values.shape[-2:]
    num_rows, num_columns = max(min(rows.stop, height - y) - rows.start, 0), max(width - abs(x), 0)
    first_column = min(max(-x, 0), width)
    pixels = values[..., rows.start : rows.start + num_rows, first_column : first_column + num_columns]
    first_row, first_column = rows.start + y, max(x, 0)
    return pixels, values[..., first_row : first_row + num_rows, first_column : first_column + num_columns]


def _count_same(label: Tensor, ksize: int) -> Tensor:
    """xi: the number of pixels in the window, center included, with the center's label; (B, H, W) uint8."""
    count, rows = torch.ones_like(label, dtype=torch.uint8), slice(0, label.shape[1])
    for offset in _half_window(ksize):
        pixels, neighbors = _pairs(label, rows, *offset)
        same = (pixels == neighbors).view(torch.uint8)
        for part in _pairs(count, rows, *offset):
            part.add_(same)
    return count


def _add_up_windows(out: Tensor, values: Tensor, label: Tensor, ksize: int) -> None:
    """Write sum(mu * omega * values) over the window of every pixel to ``out``; both (C, H, W), of one image."""
    torch.mul(values, 2, out=out)
    # Chunks twice as large as elsewhere: each is used many times, and larger chunks need fewer operations.
    for rows in chunk_slices(values.shape[1], len(values) * values.shape[2] // 2 + 1, values.device):
        for offset in _half_window(ksize):
            pixels, neighbors = _pairs(label, rows, *offset)
            same = (pixels == neighbors).to(values.dtype)
            omega = 2.0 ** (1 - max(map(abs, offset)))
            out_pixels, out_neighbors = _pairs(out, rows, *offset)
            of_pixels, of_neighbors = _pairs(values, rows, *offset)
            out_pixels.addcmul_(of_neighbors, same, value=omega)
            out_neighbors.addcmul_(of_pixels, same, value=omega)
