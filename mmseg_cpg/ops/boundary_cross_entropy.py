"""Cross-entropy near the boundaries of the label only: the simplest boundary loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import compute_dtype, reduce_error
from ._morphology import dilate
from ._validation import check_avg_factor, check_factor, check_int, check_pixels, check_reduction, refuse_gradient
from .cpg.targets import boundary_targets


@torch.compiler.disable
def boundary_cross_entropy_loss(
    logits: Tensor,
    label: Tensor,
    width_px: int = 3,
    *,
    ignore_index: int = 255,
    ignore_policy: str = 'exclude',
    weight: Tensor | None = None,
    class_weight: list[float] | Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    r"""Softmax cross-entropy of the pixels in a band around the boundaries of the label.

    .. math:: L = \frac{1}{N} \sum_{i \in band} -\log P_{i, y_i}, \quad N = |band|

    with P = softmax(logits). The band is ``width_px`` pixels wide on each side of a boundary: the boundary pixels of
    :func:`~mmseg_cpg.ops.boundary_targets` at ksize 3, one on each side, and all pixels less than
    ``width_px`` rows and columns away from one; void pixels are never part of it. (The center of a line that is one
    pixel wide is not a boundary pixel, as its gradients cancel, so width 1 excludes it.)

    Not from a paper; defined here as follows. A batch without boundary has loss 0 and gradient 0. Logits outside the
    band do not affect the loss. On CUDA, computing the boundary waits for the device.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation:
            binary cross-entropy with the sigmoid.
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        width_px: Width of the band in pixels on each side of a boundary, at least 1.
        ignore_index: Id of void pixels in the label.
        ignore_policy: With ``'exclude'`` pixels with void in their 3 x 3 window are not boundary pixels, so none are
            left if void outlines every object. With ``'as_background'`` edges around void regions are boundaries.
        weight: (B, H, W), factor of each pixel.
        class_weight: (C,), factor of each class of the label; for C = 1 of all pixels.
        avg_factor: Divisor for ``'mean'`` in place of N, number or scalar tensor >= 0.
        reduction: ``'none'`` gives :math:`weight \cdot class\_weight_y \cdot -\log P_y` of each pixel, 0 outside the
            band, ``'sum'`` its sum, ``'mean'`` the sum over N (counted unweighted) or ``avg_factor``.

    Returns:
        Scalar, or (B, H, W) for ``reduction='none'``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> boundary_cross_entropy_loss(logits, label).backward()
    """
    width_px = check_int('width_px', width_px, 1)
    check_reduction(reduction)
    ids, void = check_pixels(logits, label, ignore_index)
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    class_weight = check_factor('class_weight', class_weight, (logits.shape[1],), logits)
    refuse_gradient('class_weight', class_weight)
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    targets = boundary_targets(
        label, 3, ignore_index=ignore_index, ignore_policy=ignore_policy, num_classes=max(logits.shape[1], 2)
    )
    band = dilate(targets.mask(), 2 * width_px - 1) & ~void
    logits = logits.to(compute_dtype(logits)).masked_fill(~band[:, None], 0)
    if logits.shape[1] == 1:
        error = F.binary_cross_entropy_with_logits(logits[:, 0], ids.to(logits.dtype), class_weight, reduction='none')
    else:
        error = F.cross_entropy(logits, ids, class_weight, reduction='none')
    return reduce_error(
        error.masked_fill(~band, 0), band.sum(), weight=weight, avg_factor=avg_factor, reduction=reduction
    )
