"""The Active Boundary Loss, which moves the boundaries of a prediction toward those of its label.

P: probabilities; B: predicted boundary; M: distance to the label's boundary; D^g, D^p: target and predicted direction;
Delta_k: offsets of the 8 neighbors of a pixel; theta: distance at which the weight saturates; valid: pixels of B that
the loss includes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._common import (
    chunk_slices,
    compute_dtype,
    flat_nonzero,
    reduce_error,
    refuse_second_derivative,
    refuse_transforms,
)
from ._morphology import dilate
from ._validation import check_avg_factor, check_factor, check_number, check_pixels, check_reduction
from .boundary_distance import boundary_distance, official_distance

PRESETS = ('paper', 'official')
# Delta of Eq. 2 and 3, (rows, columns). If several neighbors are equally near the boundary, the first is the target.
_NEIGHBORS = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))
# A smaller divergence can be a rounding error and is never a boundary.
_LOWEST_THRESHOLD = 1e-5
# Log-probabilities are clamped to this, so that the loss is finite for logits of any magnitude.
_LOWEST_LOG = -1e30
# The values that the official code tries for epsilon, until few enough pixels exceed it.
_OFFICIAL_THRESHOLDS = _LOWEST_THRESHOLD * np.cumprod([1, *[1.2] * 460])  # the last one exceeds every KL


@torch.compiler.disable
def active_boundary_loss(
    logits: Tensor,
    label: Tensor,
    *,
    ignore_index: int = 255,
    boundary_ratio: float = 0.01,
    max_distance: float = 20.0,
    label_smoothing: float = 0.2,
    weight: Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
    distance: Tensor | None = None,
    preset: str = 'paper',
) -> Tensor:
    r"""Active Boundary Loss: pixels on the predicted boundary learn the direction of the label's boundary.

    .. math::
        B_i &= [\exists j \in N_2(i): KL(P_i, P_j) > \epsilon] \\
        D^g_i &= \Phi(\arg\min_k M_{i + \Delta_k}), \quad k \in \{0, ..., 7\} \\
        D^p_i &= softmax_k(KL(P_i, P_{i + \Delta_k})) \\
        ABL &= \frac{1}{N_b} \sum_i \Lambda(M_i) \, CE(D^p_i, D^g_i), \quad \Lambda(x) = \min(x, \theta) / \theta

    (Eq. 1 to 4, numbered in order of appearance, of Wang et al., "Active Boundary Loss for Semantic Segmentation",
    AAAI 2022, arXiv 2102.02696), with P = softmax(logits), N_2 the right and the lower neighbor, M the
    :func:`~mmseg_cpg.ops.boundary_distance` and Phi one-hot. Eq. 5 adds it, with weight w_a, to cross-entropy and the
    Lovász-softmax loss; it does not classify on its own.

    As in the paper, epsilon is chosen for each image so that fewer than 1 % of its pixels are in B, B is dilated by one
    pixel, pixels on the label's boundary (M_i = 0) are excluded, and the one-hot target is smoothed to 0.8 and seven
    times 0.2 / 7. The probabilities of the neighbors are detached, since pixels would pull each other in contradictory
    directions; the gradient is therefore not the derivative of the value.

    Choices where the paper is ambiguous: KL(p, q) is :math:`\sum p \log(p / q)` in Eq. 1 and 3; epsilon is the smallest
    possible value, but at least 1e-5, so that a prediction without boundary has none; the 1 % refers to all pixels of
    the label, void and padding included; dilation uses a 3 x 3 square; pixels are replicated beyond the image border;
    among equally near neighbors, the first of below, above, left, right, above right, below right, above left, below
    left is the target; N_b is the number of pixels in the sum, over the whole batch.

    ``preset='official'`` follows the authors' published code (github.com/wangchi95/active-boundary-loss), which differs
    from the paper:

    - The KL of Eq. 1 is summed over N_2; that of Eq. 3 is KL(P_j, P_i).
    - epsilon is the first of 1e-5 · 1.2^n, n = 0, 1, ..., that is exceeded by at most ``boundary_ratio`` times the
      pixels of one image, over the whole batch.
    - M is the distance minus 1, rounded down to whole pixels and at least 0, so pixels next to the label's boundary
      have M = 0 too, and several neighbors are often equally near.
    - N_b is the number of all pixels of B, including those with M = 0, which contribute nothing.
    - The seven other directions have 0.2 / 8 each, so the target sums to 0.975.
    - Void pixels are a separate class and on the label's boundary: they are in B and N_b like all others, and the loss
      of their neighbors depends on their logits. Void pixels themselves have no gradient.

    For an image without boundary in its label, the result of that code is undefined; here it contributes nothing.

    Void pixels are never valid and never a boundary, in label or prediction, and neither are pixels with void among
    their 8 neighbors. An image without valid pixels has loss 0 and gradient 0: no boundary in the label or the
    prediction, only void, or fewer than 101 pixels. In datasets whose void outlines every object (Pascal VOC) labels
    have no boundary.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation: P is the sigmoid and its complement.
        label: (B, H, W), any integer dtype, class ids in [0, max(C, 2)) or ``ignore_index``.
        ignore_index: Id of void pixels in the label.
        boundary_ratio: In (0, 1]: fewer than this share of an image's pixels are predicted boundary, before dilation.
        max_distance: Theta, in pixels.
        label_smoothing: In [0, 1]: share of the target that the seven other directions split.
        weight: (B, H, W), factor of each pixel.
        avg_factor: Divisor for ``'mean'`` in place of N_b, number or scalar tensor >= 0. Clamped to float32's
            eps, as in MMSegmentation.
        reduction: ``'none'`` gives :math:`weight \cdot \Lambda(M_i) CE(D^p_i, D^g_i)` of each pixel, 0 where it is not
            valid, ``'sum'`` its sum, ``'mean'`` the sum over N_b (counted unweighted) or ``avg_factor``.
        distance: Precomputed ``boundary_distance(label, ignore_index=...)``, (B, H, W), on the logits' device. Without
            it, the distance is computed on the CPU, which for labels on CUDA is the only step that waits for the
            device. Not supported with ``preset='official'``, which defines distances differently.
        preset: ``'paper'`` or ``'official'``.

    Returns:
        Scalar, or (B, H, W) for ``reduction='none'``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.arange(64).div(16, rounding_mode='floor').expand(2, 64, 64)
        >>> active_boundary_loss(logits, label).backward()
    """
    refuse_transforms('active_boundary_loss')
    check_boundary_options(boundary_ratio, max_distance, label_smoothing)
    check_preset(preset)
    check_reduction(reduction)
    ids, void = check_pixels(logits, label, ignore_index)
    weight = check_factor('weight', weight, tuple(ids.shape), logits)
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)

    official = preset == 'official'
    if official:
        if distance is not None:
            raise ValueError("distance must be None with preset='official', which defines distances differently")
        distance = official_distance(label, void).to(compute_dtype(logits))
        valid = _official_boundary(logits.detach(), boundary_ratio) & distance.isfinite()
        most = 9 * _budget(logits, boundary_ratio)
    else:
        if distance is None:
            distance = boundary_distance(label, ignore_index=ignore_index)
        distance = check_factor('distance', distance, tuple(ids.shape), logits)
        assert distance is not None
        distance = distance.contiguous()
        valid = _predicted_boundary(logits.detach(), void, boundary_ratio) & (distance > 0) & distance.isfinite()
        most = 9 * _most_pixels(logits, boundary_ratio)
    error = _DirectionError.apply(logits, distance, valid, most, max_distance, label_smoothing, official)
    return reduce_error(error, valid.sum(), weight=weight, avg_factor=avg_factor, reduction=reduction)


def check_boundary_options(boundary_ratio: float, max_distance: float, label_smoothing: float) -> None:
    """Raise TypeError or ValueError unless these are valid arguments of :func:`active_boundary_loss`."""
    check_number('boundary_ratio', boundary_ratio, 'a number in (0, 1]', lambda number: 0 < number <= 1)
    check_number('max_distance', max_distance, 'a number in (0, inf)', lambda number: 0 < number < math.inf)
    check_number('label_smoothing', label_smoothing, 'a number in [0, 1]', lambda number: 0 <= number <= 1)


def check_preset(preset: str) -> None:
    """Raise ValueError unless :func:`active_boundary_loss` has a preset of that name."""
    if preset not in PRESETS:
        raise ValueError(f'preset must be one of {PRESETS}, got {preset!r}')


def _most_pixels(logits: Tensor, boundary_ratio: float) -> int:
    """The largest number of pixels that is less than this share of an image."""
    return math.ceil(boundary_ratio * (logits.shape[2] * logits.shape[3])) - 1


def _predicted_boundary(logits: Tensor, void: Tensor, boundary_ratio: float) -> Tensor:
    """B of Eq. 1, dilated, without pixels that have a void one in their 3 x 3 window: (B, H, W) bool."""
    divergence = _neighbor_divergence(logits, void, torch.maximum)
    highest = divergence.flatten(1).topk(_most_pixels(logits, boundary_ratio) + 1).values
    # Not '>', so that a NaN divergence is boundary and makes the loss NaN.
    boundary = ~(divergence <= highest[:, -1:, None].clamp(min=_LOWEST_THRESHOLD))
    return dilate(boundary, 3) & ~dilate(void, 3)


def _budget(logits: Tensor, boundary_ratio: float) -> int:
    """The largest number of pixels of a batch that the official code accepts as predicted boundary."""
    return math.floor(boundary_ratio * (logits.shape[2] * logits.shape[3]))


def _official_boundary(logits: Tensor, boundary_ratio: float) -> Tensor:
    """B of Eq. 1, dilated, as in the official code: (B, H, W) bool."""
    no_void = torch.zeros_like(logits[:, 0], dtype=torch.bool)
    if not len(logits):  # no divergence is the highest
        return no_void
    divergence = _neighbor_divergence(logits, no_void, torch.add)
    budget = min(_budget(logits, boundary_ratio), divergence.numel() - 1)
    thresholds = torch.as_tensor(_OFFICIAL_THRESHOLDS, dtype=divergence.dtype, device=divergence.device)
    place = torch.searchsorted(thresholds, divergence.flatten().topk(budget + 1).values[-1])
    return dilate(~(divergence <= thresholds[place.clamp(max=len(thresholds) - 1)]), 3)


def _neighbor_divergence(logits: Tensor, void: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """KL(P_i, P_j) of the right and of the lower neighbor j, combined: (B, H, W).

    It is 0 if i or j is void or j is outside the image.
    """
    divergence = torch.zeros(void.shape, dtype=compute_dtype(logits), device=logits.device)
    _, num_classes, height, width = logits.shape
    for image, is_void, of_image in zip(logits, void, divergence, strict=True):
        void_along_x, void_along_y = is_void[:, :-1] | is_void[:, 1:], is_void[:-1] | is_void[1:]
        for rows in chunk_slices(height, num_classes * width, logits.device):
            log_p = _log_probability(image[:, rows.start : rows.stop + 1])  # and the next row, if there is one
            result = of_image[rows]
            p = log_p[:, : len(result)].exp()
            kl = _divergence(p[..., :-1], log_p[:, : len(result), :-1], log_p[:, : len(result), 1:])
            result[:, :-1] = kl.masked_fill(void_along_x[rows], 0)
            upper = slice(0, log_p.shape[1] - 1)
            kl = _divergence(p[:, upper], log_p[:, upper], log_p[:, 1:]).masked_fill(void_along_y[rows], 0)
            result[upper] = combine(result[upper], kl)
    return divergence


def _divergence(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p - log_q).mul_(p).sum(0)


def _log_probability(logits: Tensor) -> Tensor:
    """Log-softmax over the first dimension."""
    return logits.to(compute_dtype(logits)).log_softmax(0).clamp_(min=_LOWEST_LOG)


class _DirectionError(torch.autograd.Function):
    r"""\Lambda(M_i) CE(D^p_i, D^g_i) of the valid pixels, 0 elsewhere: (B, H, W).

    As neighbors are detached, the error of a pixel depends only on its own logits. So the forward pass also computes
    the gradient of these few pixels and saves nothing else.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        distance: Tensor,
        valid: Tensor,
        most: int,
        max_distance: float,
        label_smoothing: float,
        official: bool,
    ) -> Tensor:
        error = torch.zeros_like(distance)
        pixels, gradients = [], []
        for image in range(len(logits)):
            pixel = _true_pixels(valid[image].view(-1), most)
            gradient = distance.new_empty(logits.shape[1], len(pixel))
            for chunk in chunk_slices(len(pixel), 9 * logits.shape[1], logits.device):
                value, gradient[:, chunk] = _error_and_gradient(
                    logits[image], distance[image], pixel[chunk], max_distance, label_smoothing, official
                )
                is_valid = valid[image].view(-1)[pixel[chunk]]
                error[image].view(-1)[pixel[chunk]] = value.where(is_valid, 0)
                gradient[:, chunk] = gradient[:, chunk].where(is_valid, 0)
            pixels.append(pixel)
            gradients.append(gradient)
        ctx.save_for_backward(*pixels, *gradients)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return error

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        refuse_second_derivative('active_boundary_loss')
        grad_logits = torch.zeros(ctx.shape, dtype=ctx.dtype, device=grad_output.device)
        saved = ctx.saved_tensors  # read once: activation checkpointing recomputes them on each access
        pixels, gradients = saved[: len(grad_logits)], saved[len(grad_logits) :]
        for image, (pixel, gradient) in enumerate(zip(pixels, gradients, strict=True)):
            upstream = grad_output[image].flatten()[pixel]
            grad_logits[image].flatten(1).index_copy_(1, pixel, (gradient * upstream).to(ctx.dtype))
        return grad_logits, None, None, None, None, None, None


def _true_pixels(mask: Tensor, most: int) -> Tensor:
    """Flat indices of the at most ``most`` pixels where ``mask`` is True.

    On CUDA, where counting them would wait for the device, exactly ``most`` indices, those of other pixels included.
    """
    return flat_nonzero(mask) if mask.device.type == 'cpu' else _first_pixels(mask, most)


def _first_pixels(mask: Tensor, most: int) -> Tensor:
    """Flat indices of ``most`` pixels, starting with those where ``mask`` is True."""
    return mask.sort(descending=True, stable=True).indices[:most]


def _error_and_gradient(
    logits: Tensor, distance: Tensor, pixel: Tensor, max_distance: float, label_smoothing: float, official: bool
) -> tuple[Tensor, Tensor]:
    """Error of n pixels of an image (C, H, W) and its gradient with respect to their own logits: (n,) and (C, n)."""
    height, width = distance.shape
    rows, columns = pixel.div(width, rounding_mode='floor'), pixel % width
    rows = torch.stack([rows, *(rows + v for v, _ in _NEIGHBORS)])
    columns = torch.stack([columns, *(columns + u for _, u in _NEIGHBORS)])
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    window = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    log_p = _log_probability(logits.flatten(1).index_select(1, window.view(-1))).unflatten(1, window.shape)
    p = log_p.exp() if official else log_p[:, :1].exp()
    log_ratio = log_p[:, :1] - log_p[:, 1:]
    # KL(P_j, P_i) in the official code, KL(P_i, P_j) in the paper.
    divergence = -(p[:, 1:] * log_ratio).sum(0) if official else (p * log_ratio).sum(0)
    log_direction = divergence.log_softmax(0)

    nearest = distance.view(-1)[window[1:]].masked_fill(outside[1:], math.inf).min(0, keepdim=True).indices
    other = label_smoothing / (8 if official else 7)
    target = torch.full_like(divergence, other).scatter_(0, nearest, 1 - label_smoothing)
    factor = distance.view(-1)[pixel].clamp(max=max_distance) / max_distance
    error = -factor * (target * log_direction).sum(0)
    # d CE / d KL_k, then d KL_k / d z = P_i (log-ratio - KL_k) in the paper, P_i - P_k in the official code
    residual = factor * (log_direction.exp() * target.sum(0) - target)
    if official:
        return error, ((p[:, :1] - p[:, 1:]) * residual).sum(1)
    return error, p[:, 0] * ((log_ratio * residual).sum(1) - (divergence * residual).sum(0))
