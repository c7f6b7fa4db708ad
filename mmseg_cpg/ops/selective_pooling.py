"""Standard scores of the logits, pooled over the neighbours of the same class (Guo et al., arXiv 1802.08290, Eq. 2).

x: standard scores of each pixel's logits over the classes, (z - mean) / deviation; f: pooled vectors; mu: 1 where a
neighbour has the centre's class; omega: weights by chessboard distance; xi: number of neighbours with mu = 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .chunks import chunk_slices
from .dtypes import compute_dtype

VOID = -1
# Added to the variance. As large as in layer normalisation: the gradient at constant logits is finite, and of use.
EPSILON = 1e-5


def pooled_scores(logits: Tensor, label: Tensor, ksize: int) -> Tensor:
    r"""Pooled vectors f = 1/xi * sum(mu * omega * x) of all pixels (Eq. 2), with omega = 2^(1 - chessboard distance).

    Neighbours outside the image do not exist: they count neither in the sum nor in xi. Differentiable once. The window
    is added up shift by shift, in place and in parts of the image that stay in the cache; between forward and backward
    nothing is held but the arguments and xi, since standard scores are computed anew.

    Args:
        logits: (B, C, H, W), floating point.
        label: (B, H, W) int64, class ids or ``VOID``, whose pixels have f = 0 and no part in that of others.
        ksize: Odd window size.

    Returns:
        (B, C, H, W) float32, or float64 for float64 logits.
    """
    return _PooledScores.apply(logits, label, ksize)


class _PooledScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, label: Tensor, ksize: int) -> Tensor:
        num_same = _count_same(label, ksize)
        ctx.save_for_backward(logits, label, num_same)
        ctx.ksize = ksize
        pooled = logits.new_empty(logits.shape, dtype=compute_dtype(logits))
        scores = torch.empty_like(pooled[:1]).squeeze(0)
        for image in range(len(logits)):
            for pixels, part, _ in _standard_scores(logits[image], label[image]):
                scores.flatten(1)[:, pixels] = part
            _add_up_windows(pooled[image], scores, label[image], ksize)
        return pooled.div_(num_same[:, None])

    @staticmethod
    def backward(ctx, grad_pooled: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError('the locally adaptive loss can be differentiated once only (create_graph=True)')
        logits, label, num_same = ctx.saved_tensors
        grad_logits = grad_pooled.new_empty(logits.shape)
        for image in range(len(logits)):
            # mu and omega are the same from centre to neighbour as back: the window's sum is its own transpose.
            _add_up_windows(grad_logits[image], grad_pooled[image] / num_same[image], label[image], ctx.ksize)
            for pixels, scores, inverse_deviation in _standard_scores(logits[image], label[image]):
                grad = grad_logits[image].flatten(1)[:, pixels]
                grad.sub_(scores.mul_((grad * scores).mean(0)).add_(grad.mean(0))).mul_(inverse_deviation)
        return grad_logits.to(logits.dtype), None, None


def _standard_scores(logits: Tensor, label: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Of an image (C, H, W), slice by slice of its pixels: x (C, n), 0 at void pixels, and 1 / deviation (n,).

    Computed in float64, in which the squares of float32 logits do not overflow and a large common offset cancels.
    """
    logits, void = logits.flatten(1), (label == VOID).flatten()
    for pixels in chunk_slices(len(void), len(logits), logits.device):
        scores = logits[:, pixels].to(torch.float64, copy=True).masked_fill_(void[pixels], 0)
        scores.sub_(scores.mean(0))
        inverse_deviation = scores.square().mean(0).add_(EPSILON).rsqrt_()
        scores.mul_(inverse_deviation)
        yield pixels, scores.to(compute_dtype(logits)), inverse_deviation.to(compute_dtype(logits))


def _half_window(ksize: int) -> Iterator[tuple[int, int]]:
    """Row and column offsets of the half of the window that comes after its centre; those before it are opposite."""
    radius = ksize // 2
    yield from ((0, x) for x in range(1, radius + 1))
    yield from ((y, x) for y in range(1, radius + 1) for x in range(-radius, radius + 1))


def _pairs(values: Tensor, rows: slice, y: int, x: int) -> tuple[Tensor, Tensor]:
    """Views of (..., H, W): the pixels of these rows that have a neighbour at offset (y, x), y >= 0; the neighbours."""
    height, width = values.shape[-2:]
    num_rows, num_columns = max(min(rows.stop, height - y) - rows.start, 0), max(width - abs(x), 0)
    first_column = min(max(-x, 0), width)
    pixels = values[..., rows.start : rows.start + num_rows, first_column : first_column + num_columns]
    first_row, first_column = rows.start + y, max(x, 0)
    return pixels, values[..., first_row : first_row + num_rows, first_column : first_column + num_columns]


def _count_same(label: Tensor, ksize: int) -> Tensor:
    """xi: how many pixels of the window, its centre included, have the centre's label; (B, H, W) int64."""
    count, rows = torch.ones_like(label), slice(0, label.shape[1])
    for offset in _half_window(ksize):
        pixels, neighbours = _pairs(label, rows, *offset)
        same = pixels == neighbours
        for part in _pairs(count, rows, *offset):
            part.add_(same)
    return count


def _add_up_windows(out: Tensor, values: Tensor, label: Tensor, ksize: int) -> None:
    """Write sum(mu * omega * values) over every pixel's window to ``out``; both (C, H, W), of one image."""
    torch.mul(values, 2, out=out)
    for rows in chunk_slices(values.shape[1], len(values) * values.shape[2], values.device):
        for offset in _half_window(ksize):
            pixels, neighbours = _pairs(label, rows, *offset)
            same = (pixels == neighbours).to(values.dtype)
            omega = 2.0 ** (1 - max(map(abs, offset)))
            out_pixels, out_neighbours = _pairs(out, rows, *offset)
            of_pixels, of_neighbours = _pairs(values, rows, *offset)
            out_pixels.addcmul_(of_neighbours, same, value=omega)
            out_neighbours.addcmul_(of_pixels, same, value=omega)
