"""CPG error by the paper's equations, line by line, in plain torch: for reading, for tests and as the baseline.

z: logits; y: label; P, T: predicted and true probabilities (Eq. 10-12); Ĝ, G: their gradients; M: boundary entries.
Every tensor has all classes at all pixels, so memory is many times that of the logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._dtypes import compute_dtype, to_float64
from .._validation import void_mask
from .sobel import sobel_numerators


def dense_squared_error(
    logits: Tensor, label: Tensor, ksize: int, ignore_index: int, ignore_policy: str, use_sigmoid: bool
) -> tuple[Tensor, Tensor]:
    r"""M \cdot (Ĝ - G)^2 of every pixel and class, summed over x and y, and N = \sum M (Eq. 14, 15).

    Args:
        logits: (B, C, H, W), floating point.
        label: (B, H, W), integer, in [0, C) ({0, 1} for C = 1) or ``ignore_index``.
        ksize, ignore_index, ignore_policy: See :func:`~mmseg_cpg.ops.boundary_targets`.
        use_sigmoid: P is sigmoid(z) instead of softmax(z).

    Returns:
        (B, C, H, W) float32 (float64 for float64 logits) and a scalar.
    """
    dtype = compute_dtype(logits)
    void = void_mask(label, ignore_index)[:, None]
    first = 1 if logits.shape[1] == 1 else 0  # a single channel is the probability of class 1
    ids = torch.arange(first, first + logits.shape[1], device=label.device)
    with torch.autocast(logits.device.type, enabled=False):
        numerators, denominator = sobel_numerators(ksize)
        true = (label[:, None] == ids.view(-1, 1, 1)) & ~void
        # Sums of integers below 2^24 are exact in float32, those of ksize 9 and 11 need float64.
        true = true.float() if ksize <= 7 else to_float64(true)
        kernels = torch.tensor(numerators, dtype=true.dtype, device=true.device)
        kernels = torch.stack([kernels, kernels.T])
        true_gradient = _gradient(true, kernels).round().to(dtype).to(label.device)

        dropped = _window_max(void, ksize) if ignore_policy == 'exclude' else void
        boundary = (true_gradient != 0) & ~dropped[:, :, None]
        # Unread logits have no part in the loss, not even as NaN.
        read = _window_max(boundary.any(2) if use_sigmoid else boundary.flatten(1, 2).any(1, keepdim=True), ksize)
        logits = logits.to(dtype).masked_fill(~read, 0)

        predicted = logits.sigmoid() if use_sigmoid else logits.softmax(1)
        predicted_gradient = _gradient(predicted, kernels.to(dtype).to(label.device))
        error = ((predicted_gradient - true_gradient) / denominator).where(boundary, 0)
        return error.square().sum(2), boundary.sum()


def probability_gradient(probability: Tensor, ksize: int) -> Tensor:
    r"""Ĝ = S \star P of each class (Eq. 5): the x and the y gradient of every pixel.

    Args:
        probability: (B, C, H, W), floating point.
        ksize: Odd kernel size in [3, 11].

    Returns:
        (B, C, 2, H, W). The largest element of a kernel is 1, so an edge from 0 to 1 along a column is 2 for ksize 3.
    """
    numerators, denominator = sobel_numerators(ksize)
    kernel = torch.tensor(numerators, dtype=probability.dtype, device=probability.device) / denominator
    return _gradient(probability, torch.stack([kernel, kernel.T]))


def _gradient(probability: Tensor, kernels: Tensor) -> Tensor:
    """Cross-correlate each class of (B, C, H, W) with (2, k, k), replicate padding (Eq. 5): (B, C, 2, H, W)."""
    radius = kernels.shape[-1] // 2
    planes = F.pad(probability.flatten(0, 1)[:, None], (radius,) * 4, mode='replicate')
    return F.conv2d(planes, kernels[:, None]).unflatten(0, probability.shape[:2])


def _window_max(mask: Tensor, ksize: int) -> Tensor:
    return F.max_pool2d(mask.float(), ksize, stride=1, padding=ksize // 2).bool()
