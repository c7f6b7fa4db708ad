"""CPG error by the paper's equations, line by line, in plain torch: for reading, for tests and as the baseline.

z: logits; P, T: predicted and true probabilities (Eq. 10-12); edge_pred, edge_true: their Sobel responses Ĝ and G;
M: boundary entries (Eq. 13). Every tensor has all classes at all pixels, so memory is many times that of the logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .._common import compute_dtype, to_float64
from .._validation import split_void
from .options import CPGOptions
from .sobel import sobel_numerators
from .targets import BoundaryTargets


def dense_squared_error(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    class_weight: Tensor | None,
    targets: BoundaryTargets | None,
) -> tuple[Tensor, Tensor]:
    """See :class:`~mmseg_cpg.ops.cpg.implementations.SquaredError`. Precomputed targets are ignored."""
    dtype, num_channels = compute_dtype(logits), logits.shape[1]
    ids, void = split_void(label, options.ignore_index, max(num_channels, 2))
    first = 1 if num_channels == 1 else 0  # a single channel is the probability of class 1
    class_index = torch.arange(first, first + num_channels, device=label.device)
    with torch.autocast(logits.device.type, enabled=False):
        numerators, denominator = sobel_numerators(options.ksize)
        void = void[:, None]
        true = (ids[:, None] == class_index.view(-1, 1, 1)) & ~void
        # Sums of integers below 2^24 are exact in float32, those of ksize 9 and 11 need float64.
        true = true.float() if options.ksize <= 7 else to_float64(true)
        kernels = torch.tensor(numerators, dtype=true.dtype, device=true.device)
        kernels = torch.stack([kernels, kernels.T])
        edge_true = _correlate(true, kernels).round().to(dtype).to(label.device)

        dropped = _window_max(void, options.ksize) if options.ignore_policy == 'exclude' else void
        boundary = (edge_true != 0) & ~dropped[:, :, None]
        # All other logits do not affect the loss, not even as NaN.
        has_entry = boundary.any(2) if options.use_sigmoid else boundary.flatten(1, 2).any(1, keepdim=True)
        receptive = _window_max(has_entry, options.ksize)
        logits = logits.to(dtype).masked_fill(~receptive, 0)

        predicted = logits.sigmoid() if options.use_sigmoid else logits.softmax(1)
        edge_pred = _correlate(predicted, kernels.to(dtype).to(label.device))
        residual = ((edge_pred - edge_true) / denominator).where(boundary, 0)
        error = residual.square().sum(2)
        if class_weight is not None:
            error = error * class_weight.view(-1, 1, 1)
        return error.sum(1), boundary.sum()


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
    return _correlate(probability, torch.stack([kernel, kernel.T]))


def _correlate(probability: Tensor, kernels: Tensor) -> Tensor:
    """Cross-correlate each class of (B, C, H, W) with (2, k, k), replicate padding (Eq. 5): (B, C, 2, H, W)."""
    radius = kernels.shape[-1] // 2
    planes = F.pad(probability.flatten(0, 1)[:, None], (radius,) * 4, mode='replicate')
    return F.conv2d(planes, kernels[:, None]).unflatten(0, probability.shape[:2])


def _window_max(mask: Tensor, ksize: int) -> Tensor:
    return F.max_pool2d(mask.float(), ksize, stride=1, padding=ksize // 2).bool()
