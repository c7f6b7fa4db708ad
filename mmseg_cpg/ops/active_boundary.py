"""The Active Boundary Loss: moves the boundaries of a prediction toward those of its label.

P: probabilities; B: predicted boundary; M: distance to the label's boundary; D^g, D^p: target and predicted direction;
Delta_k: the 8 neighbors of a pixel; theta: the distance from which on all pixels count alike.
"""

from __future__ import annotations

import math
from numbers import Real

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
from ._validation import check_avg_factor, check_factor, check_pixels, check_reduction
from .boundary_distance import boundary_distance, official_distance

PRESETS = ('paper', 'official')
# Delta of Eq. 2 and 3, (rows, columns). Where several neighbors are nearest to the boundary, the first of them counts.
_NEIGHBORS = ((1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1))
# Neighbors that differ by less are no boundary, however few of the others differ by more: rounding errors do that.
_LOWEST_THRESHOLD = 1e-5
# Log-probabilities are cut off here, so that logits of any size keep the loss finite.
_LOWEST_LOG = -1e30
# The official code's epsilon, which grows until few enough pixels are left.
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
    r"""Active Boundary Loss: each pixel of the predicted boundary learns in which direction the label's boundary lies.

    .. math::
        B_i &= [\exists j \in N_2(i): KL(P_i, P_j) > \epsilon] \\
        D^g_i &= \Phi(\arg\min_k M_{i + \Delta_k}), \quad k \in \{0, ..., 7\} \\
        D^p_i &= softmax_k(KL(P_i, P_{i + \Delta_k})) \\
        ABL &= \frac{1}{N_b} \sum_i \Lambda(M_i) \, CE(D^p_i, D^g_i), \quad \Lambda(x) = \min(x, \theta) / \theta

    (Eq. 1 to 4 of Wang et al., "Active Boundary Loss for Semantic Segmentation", AAAI 2022, arXiv 2102.02696, numbered
    as they follow each other), with P = softmax(logits), N_2 the right and the lower neighbor, M the
    :func:`~mmseg_cpg.ops.boundary_distance` and Phi one-hot. Eq. 5 adds it, with weight w_a, to cross-entropy and the
    Lovász-softmax loss, without which it does not classify.

    As in the paper, epsilon is chosen for each image so that fewer than 1 % of its pixels are in B, B is dilated by one
    pixel, pixels on the label's boundary (M_i = 0) do not count, and the one-hot target is smoothed to 0.8 and, seven
    times, 0.2 / 7. The neighbors' probabilities are constants (detached), since pixels would pull at each other in
    contradictory directions: the gradient is not the slope of the value.

    The paper leaves open, and here it is: KL(p, q) is :math:`\sum p \log(p / q)` in Eq. 1 and 3; epsilon is the
    smallest possible value, but at least 1e-5, so that a prediction without boundary has none; the 1 % is of all the
    label's pixels, void and padding included; dilation is by the 3 x 3 square; beyond the image's border the nearest
    pixel is repeated; of several nearest neighbors the first of below, above, left, right, above right, below right,
    above left, below left is the target; N_b counts the pixels of the sum, in the whole batch.

    ``preset='official'`` is the authors' published code (github.com/wangchi95/active-boundary-loss), which differs from
    the paper in this:

    - The KL of Eq. 1 is summed over N_2; that of Eq. 3 is KL(P_j, P_i).
    - epsilon is the first of 1e-5 · 1.2^n, n = 0, 1, ..., above which lie at most ``boundary_ratio`` times the pixels
      of one image, in the whole batch.
    - M is the distance minus 1, rounded down to whole pixels and at least 0, so that pixels next to the label's
      boundary have M = 0 as well, and several neighbors are often equally near.
    - N_b counts all pixels of B, those with M = 0, which add nothing, included.
    - The seven other directions have 0.2 / 8 each, so that the target sums to 0.975.
    - Void pixels are a class of their own and lie on the label's boundary: they are in B and N_b like all others, and
      the loss of their neighbors reads their logits. Void pixels themselves have no gradient.

    The code leaves undefined what an image without boundary in its label gives; here it counts nothing.

    Void pixels are never counted and make no boundary, neither in the label nor in the prediction, and a pixel with a
    void one among its 8 neighbors is not counted: logits of void pixels change nothing. An image has loss 0 and
    gradient 0 where nothing is counted: no boundary in the label or the prediction, void only, fewer than 101 pixels.
    On datasets whose void lines every object (Pascal VOC) labels have no boundary.

    Args:
        logits: (B, C, H, W), float16, bfloat16, float32 or float64, any memory format. C = 1 is binary segmentation: P
            is the sigmoid and its complement. Never modified. Computed with in float32 (float64 for float64), also
            under autocast. Differentiable once.
        label: (B, H, W), any integer dtype, class ids in [0, max(C, 2)) or ``ignore_index``.
        ignore_index: Id of void pixels in the label.
        boundary_ratio: In (0, 1]: fewer than this share of an image's pixels are predicted boundary, before dilation.
        max_distance: Theta, in pixels.
        label_smoothing: In [0, 1]: what the seven other directions share of the target.
        weight: (B, H, W), factor of each pixel.
        avg_factor: Divisor for ``'mean'`` in place of N_b, number or scalar tensor >= 0. As in MMSegmentation
            the smallest is float32's eps, so that 0 where nothing is counted gives 0.
        reduction: ``'none'`` gives :math:`weight \cdot \Lambda(M_i) CE(D^p_i, D^g_i)` of each pixel, 0 where it is not
            counted, ``'sum'`` its sum, ``'mean'`` the sum over N_b (counted unweighted) or ``avg_factor``.
        distance: Precomputed ``boundary_distance(label, ignore_index=...)``, (B, H, W), on the logits' device. Else it
            is computed here, on the CPU: for labels on CUDA that waits for the device, and all else does not. Not with
            ``preset='official'``, which measures distances in its own way.
        preset: ``'paper'`` or ``'official'``.

    Returns:
        Scalar, or (B, H, W) for ``reduction='none'``; float32, or float64 for float64 logits.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value, or the arguments do not fit each other. On CUDA, label
            values are checked by an asynchronous device assertion.

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
            raise ValueError("distance must be None with preset='official', which measures distances in its own way")
        distance = official_distance(label, void).to(compute_dtype(logits))
        counted = _official_boundary(logits.detach(), boundary_ratio) & distance.isfinite()
        most = 9 * _budget(logits, boundary_ratio)
    else:
        if distance is None:
            distance = boundary_distance(label, ignore_index=ignore_index)
        distance = check_factor('distance', distance, tuple(ids.shape), logits)
        counted = _predicted_boundary(logits.detach(), void, boundary_ratio) & (distance > 0) & distance.isfinite()
        most = 9 * _most_pixels(logits, boundary_ratio)
    error = _DirectionError.apply(logits, distance, counted, most, max_distance, label_smoothing, official)
    return reduce_error(error, counted.sum(), weight=weight, avg_factor=avg_factor, reduction=reduction)


def check_boundary_options(boundary_ratio: float, max_distance: float, label_smoothing: float) -> None:
    """Raise ValueError unless the three are numbers that :func:`active_boundary_loss` takes."""
    for name, value, interval, fits in (
        ('boundary_ratio', boundary_ratio, '(0, 1]', lambda number: 0 < number <= 1),
        ('max_distance', max_distance, '(0, inf)', lambda number: 0 < number < math.inf),
        ('label_smoothing', label_smoothing, '[0, 1]', lambda number: 0 <= number <= 1),
    ):
        if isinstance(value, bool) or not isinstance(value, Real) or not fits(value):
            raise ValueError(f'{name} must be a number in {interval}, got {value!r}')


def check_preset(preset: str) -> None:
    """Raise ValueError unless :func:`active_boundary_loss` has a preset of that name."""
    if preset not in PRESETS:
        raise ValueError(f'preset must be one of {PRESETS}, got {preset!r}')


def _most_pixels(logits: Tensor, boundary_ratio: float) -> int:
    """How many pixels of an image are fewer than this share of them."""
    return math.ceil(boundary_ratio * (logits.shape[2] * logits.shape[3])) - 1


def _predicted_boundary(logits: Tensor, void: Tensor, boundary_ratio: float) -> Tensor:
    """B of Eq. 1, dilated, without pixels that have a void one in their 3 x 3 window: (B, H, W) bool."""
    divergence = torch.zeros(void.shape, dtype=compute_dtype(logits), device=logits.device)
    for image in range(len(logits)):
        _neighbor_divergence_(divergence[image], logits[image], void[image])
    highest = divergence.flatten(1).topk(_most_pixels(logits, boundary_ratio) + 1).values
    # Not '>': where the divergence is NaN the loss has to be, too.
    boundary = ~(divergence <= highest[:, -1:, None].clamp(min=_LOWEST_THRESHOLD))
    return dilate(boundary, 3) & ~dilate(void, 3)


def _budget(logits: Tensor, boundary_ratio: float) -> int:
    """How many pixels of a batch the official code takes for the predicted boundary, at most."""
    return math.floor(boundary_ratio * (logits.shape[2] * logits.shape[3]))


def _official_boundary(logits: Tensor, boundary_ratio: float) -> Tensor:
    """B of Eq. 1, dilated, as in the official code: (B, H, W) bool."""
    divergence = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=compute_dtype(logits), device=logits.device)
    for image in range(len(logits)):
        _neighbor_divergence_sum_(divergence[image], logits[image])
    budget = min(_budget(logits, boundary_ratio), divergence.numel() - 1)
    thresholds = torch.as_tensor(_OFFICIAL_THRESHOLDS, dtype=divergence.dtype, device=divergence.device)
    place = torch.searchsorted(thresholds, divergence.flatten().topk(budget + 1).values[-1])
    return dilate(~(divergence <= thresholds[place.clamp(max=len(thresholds) - 1)]), 3)


def _neighbor_divergence_sum_(divergence: Tensor, logits: Tensor) -> None:
    """Fill in the sum of KL(P_i, P_j) over the right and the lower neighbor j, of an image (C, H, W)."""
    _, height, width = logits.shape
    for rows in chunk_slices(height, logits.shape[0] * width, logits.device):
        log_p = _log_probability(logits[:, rows.start : rows.stop + 1])  # and the row below, if there is one
        result = divergence[rows]
        p = log_p[:, : len(result)].exp()
        result[:, :-1] = _divergence(p[..., :-1], log_p[:, : len(result), :-1], log_p[:, : len(result), 1:])
        upper = slice(0, log_p.shape[1] - 1)
        result[upper] += _divergence(p[:, upper], log_p[:, upper], log_p[:, 1:])


def _neighbor_divergence_(divergence: Tensor, logits: Tensor, void: Tensor) -> None:
    """Fill in KL(P_i, P_j), the larger one of the right and the lower neighbor j, of an image (C, H, W).

    Where i or j is void, or j lies outside, it is 0.
    """
    _, height, width = logits.shape
    for rows in chunk_slices(height, logits.shape[0] * width, logits.device):
        band = slice(rows.start, rows.stop + 1)  # and the row below, if there is one
        log_p, is_void, result = _log_probability(logits[:, band]), void[band], divergence[rows]
        p = log_p[:, : len(result)].exp()
        kl = _divergence(p[..., :-1], log_p[:, : len(result), :-1], log_p[:, : len(result), 1:])
        result[:, :-1] = kl.masked_fill(is_void[: len(result), :-1] | is_void[: len(result), 1:], 0)
        upper = slice(0, len(is_void) - 1)
        kl = _divergence(p[:, upper], log_p[:, upper], log_p[:, 1:]).masked_fill(is_void[upper] | is_void[1:], 0)
        result[upper] = torch.maximum(result[upper], kl)


def _divergence(p: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p - log_q).mul_(p).sum(0)


def _log_probability(logits: Tensor) -> Tensor:
    """Log-softmax over the first dimension."""
    return logits.to(compute_dtype(logits)).log_softmax(0).clamp_(min=_LOWEST_LOG)


class _DirectionError(torch.autograd.Function):
    r"""\Lambda(M_i) CE(D^p_i, D^g_i) of the counted pixels, 0 elsewhere: (B, H, W).

    With the neighbors constant, a pixel's error depends on its own logits alone. So the forward pass computes the
    gradient too, of these few pixels, and keeps nothing else.
    """

    @staticmethod
    def forward(
        ctx,
        logits: Tensor,
        distance: Tensor,
        counted: Tensor,
        most: int,
        max_distance: float,
        label_smoothing: float,
        official: bool,
    ) -> Tensor:
        error = torch.zeros_like(distance)
        pixels, gradients = [], []
        for image in range(len(logits)):
            pixel = _true_pixels(counted[image].view(-1), most)
            gradient = distance.new_empty(logits.shape[1], len(pixel))
            for chunk in chunk_slices(len(pixel), 9 * logits.shape[1], logits.device):
                value, gradient[:, chunk] = _error_and_gradient(
                    logits[image], distance[image], pixel[chunk], max_distance, label_smoothing, official
                )
                valid = counted[image].view(-1)[pixel[chunk]]
                error[image].view(-1)[pixel[chunk]] = value.where(valid, 0)
                gradient[:, chunk] = gradient[:, chunk].where(valid, 0)
            pixels.append(pixel)
            gradients.append(gradient)
        ctx.save_for_backward(*pixels, *gradients)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return error

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None, None, None, None, None]:
        refuse_second_derivative('active_boundary_loss')
        grad_logits = torch.zeros(ctx.shape, dtype=ctx.dtype, device=grad_output.device)
        saved = ctx.saved_tensors  # once: activation checkpointing computes them anew
        pixels, gradients = saved[: len(grad_logits)], saved[len(grad_logits) :]
        for image, (pixel, gradient) in enumerate(zip(pixels, gradients, strict=True)):
            upstream = grad_output[image].flatten()[pixel]
            grad_logits[image].flatten(1).index_copy_(1, pixel, (gradient * upstream).to(ctx.dtype))
        return grad_logits, None, None, None, None, None, None


def _true_pixels(mask: Tensor, most: int) -> Tensor:
    """Flat indices of the pixels where ``mask`` is True, ``most`` at most; on CUDA, which must not wait, others too."""
    return flat_nonzero(mask) if mask.device.type == 'cpu' else _first_pixels(mask, most)


def _first_pixels(mask: Tensor, most: int) -> Tensor:
    """Flat indices of ``most`` pixels, those where ``mask`` is True first."""
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
