"""The CPG loss: checks its arguments, runs an implementation and reduces."""

from __future__ import annotations

import torch
from torch import Tensor

from .._common import reduce_error
from .._validation import (
    check_avg_factor,
    check_factor,
    check_label,
    check_logits,
    check_reduction,
    refuse_gradient,
)
from .implementations import IMPLEMENTATIONS, choose_implementation, warn_of_fallback
from .options import CPGOptions
from .targets import BoundaryTargets, check_targets


@torch.compiler.disable
def cpg_loss(
    logits: Tensor,
    label: Tensor,
    ksize: int = 3,
    *,
    ignore_index: int = 255,
    ignore_policy: str = 'exclude',
    use_sigmoid: bool = False,
    weight: Tensor | None = None,
    class_weight: list[float] | Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
    targets: BoundaryTargets | None = None,
    implementation: str = 'auto',
) -> Tensor:
    r"""Convolution-based Probability Gradient loss: match the gradients of prediction and label at boundaries.

    .. math:: L = \frac{1}{N} \sum M \cdot (Ĝ - G)^2, \quad Ĝ = S \star P, \quad G = S \star T, \quad N = \sum M

    (Eq. 2, 14, 15 of Shan & Jia, arXiv 2404.06704), with P = softmax(logits) (Eq. 12), T the one-hot label (Eq. 10,
    11), S the two Sobel-like kernels (Eq. 8, 9), :math:`\star` cross-correlation with replicate padding (Eq. 5) and
    M = [G != 0] (Eq. 13). Sums run over images, classes, both directions and pixels of the batch.

    Unlike the authors' published code, it computes the boundary in integers (in float32 a plain convolution marks many
    spurious entries) and excludes void pixels by default. NaN logits in a boundary window make the loss NaN; all other
    logits do not affect the loss.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation:
            P is the sigmoid, and only class 1 has boundary entries.
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        ksize: Odd kernel size in [3, 11]; the paper uses 3, 5 and 7.
        ignore_index: Id of void pixels in the label.
        ignore_policy: ``'exclude'`` drops the entries whose k x k window has a void pixel: logits of void pixels
            do not affect the loss. ``'as_background'`` sets T = 0 at void pixels and drops entries at void pixels only,
            so that edges appear around void regions, as in the authors' published code.
        use_sigmoid: P = sigmoid(logits), class by class. Always so for C = 1.
        weight: (B, H, W), factor of each pixel.
        class_weight: (C,), factor of each channel. It may require a gradient with ``'dense'`` only.
        avg_factor: Divisor for ``'mean'`` in place of N, number or scalar tensor >= 0. Clamped to float32's
            eps, as in MMSegmentation.
        reduction: ``'none'`` gives :math:`e = weight \cdot \sum_{c,d} class\_weight \cdot M (Ĝ - G)^2` of each
            pixel, ``'sum'`` its sum, ``'mean'`` the sum over N (which has no weights) or ``avg_factor``.
        targets: Precomputed ``boundary_targets(label, ksize, ...)``, on the logits' device. Only ``'sparse'`` uses
            them, and then does not read ``label``.
        implementation: ``'sparse'`` works on boundary pixels only, ``'dense'`` follows the equations line by line with
            many times the memory, ``'triton'`` is for CUDA, without host synchronization. ``'auto'`` is ``'triton'``
            for float16, bfloat16 and float32 logits on CUDA, else ``'sparse'``. On first use the Triton kernels are
            compared with ``'sparse'``; if they fail, ``'auto'`` warns and uses ``'sparse'``, ``'triton'`` raises.

    Returns:
        Scalar, or (B, H, W) for ``reduction='none'``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> cpg_loss(logits, label, ksize=3).backward()
    """
    label = check_label(label)
    check_logits(logits, label)
    options = CPGOptions(ksize, ignore_index, ignore_policy, use_sigmoid or logits.shape[1] == 1)
    check_reduction(reduction)
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    class_weight = check_factor('class_weight', class_weight, (logits.shape[1],), logits)
    if implementation != 'dense':
        refuse_gradient('class_weight', class_weight, "; implementation='dense' computes it")
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    if targets is not None:
        check_targets(targets, label, options, max(logits.shape[1], 2))
    choice = choose_implementation(logits, options, implementation)
    warn_of_fallback('cpg_loss', choice)
    error, num_entries = IMPLEMENTATIONS[choice.name](logits, label, options, class_weight, targets)
    return reduce_error(error, num_entries, weight=weight, avg_factor=avg_factor, reduction=reduction)
