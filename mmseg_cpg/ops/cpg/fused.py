"""Cross-entropy and CPG loss together: checks the arguments, and runs the implementation."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .._common import reduce_error
from .._threads import run_alone
from .._validation import (
    check_avg_factor,
    check_bool,
    check_factor,
    check_label,
    check_logits,
    check_number,
    check_reduction,
    refuse_gradient,
)
from .cross_entropy import CrossEntropy
from .implementations import FUSED_ERRORS, choose_fused_implementation, warn_of_fallback
from .options import CPGOptions
from .sparse_fused import sparse_cross_entropy_cpg
from .targets import BoundaryTargets, check_targets, targets_of_batch


class CrossEntropyCPG(NamedTuple):
    """What :func:`cross_entropy_cpg_loss` returns.

    Attributes:
        total: ``cross_entropy + cpg``. It alone carries the gradient.
        cross_entropy: The main loss times ``ce_weight``, for the log.
        cpg: The CPG loss times ``cpg_weight``, for the log.
    """

    total: Tensor
    cross_entropy: Tensor
    cpg: Tensor


@torch.compiler.disable
def cross_entropy_cpg_loss(
    logits: Tensor,
    label: Tensor,
    ksize: int = 3,
    *,
    ce_weight: float = 1.0,
    cpg_weight: float = 1.0,
    use_sigmoid: bool = False,
    ignore_index: int = 255,
    ignore_policy: str = 'exclude',
    weight: Tensor | None = None,
    class_weight: list[float] | Tensor | None = None,
    cpg_class_weight: list[float] | Tensor | None = None,
    avg_non_ignore: bool = False,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
    targets: BoundaryTargets | None = None,
    implementation: str = 'auto',
) -> CrossEntropyCPG:
    """Cross-entropy and CPG loss together, in one pass over the logits, forward and backward.

    The main loss is that of MMSegmentation's ``CrossEntropyLoss``, the other one :func:`cpg_loss`. Both share the
    softmax, and one gradient is written for both.

    Args:
        logits: (B, C, H, W), float16, bfloat16, float32 or float64, any memory format. Never modified. The computation
            is in float32 (float64 for float64 logits), also under autocast.
        label: (B, H, W), any integer dtype, class ids in [0, max(C, 2)) or ``ignore_index``.
        ksize: Odd kernel size of the CPG loss in [3, 11].
        ce_weight: Factor of the main loss.
        cpg_weight: Factor of the CPG loss, the paper's lambda.
        use_sigmoid: The main loss is binary cross-entropy, class by class, as in the paper on Cityscapes; the CPG loss
            keeps the softmax. Must be True for C = 1, where the CPG loss takes the sigmoid, too.
        ignore_index: Id of void pixels in the label.
        ignore_policy: How the CPG loss treats void pixels, ``'exclude'`` or ``'as_background'``.
        weight: (B, H, W), factor of each pixel in both losses. It must not require a gradient with ``'sparse'``.
        class_weight: (C,), in the main loss the factor of each pixel by its class; with ``use_sigmoid`` that of the
            positive term of each class.
        cpg_class_weight: (C,), factor of each class in the CPG loss.
        avg_non_ignore: The main loss is a mean over the pixels that are not void instead of all. With ``class_weight``
            and without ``use_sigmoid`` it is the weighted mean over the pixels that are not void in either case.
        avg_factor: Divisor of both losses for ``'mean'``, in place of the numbers of their terms, >= 0.
        reduction: 'mean' or 'sum', or 'none' for values of each pixel (with ``use_sigmoid`` summed over the classes).
        targets: Precomputed ``boundary_targets(label, ksize, ...)``, on the logits' device. ``'triton'`` ignores them.
        implementation: ``'sparse'`` is for the CPU, several channels and reduction 'mean' or 'sum'; it computes the
            gradient together with the value. ``'triton'`` is for CUDA and float16, bfloat16 and float32, without host
            synchronization. ``'separate'`` computes one loss after the other. ``'auto'`` is the first of them that
            supports the arguments. On first use the Triton kernels are compared with ``'separate'``; if they fail,
            ``'auto'`` warns and uses ``'separate'``, ``'triton'`` raises.

    Returns:
        The total, which carries the gradient, and its two parts: scalars, or (B, H, W) for ``reduction='none'``;
        float32, or float64 for float64 logits. The total can be differentiated once only. If its graph is retained for
        another backward, do not modify a gradient in place: with ``'sparse'`` the next one may be the same tensor.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value, or the arguments do not fit each other.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> cross_entropy_cpg_loss(logits, label, ksize=3).total.backward()
    """
    check_reduction(reduction)
    for name, value in (('ce_weight', ce_weight), ('cpg_weight', cpg_weight)):
        check_number(name, value)
    check_bool('use_sigmoid', use_sigmoid)
    check_bool('avg_non_ignore', avg_non_ignore)
    label = check_label(label)
    check_logits(logits, label)
    num_classes = logits.shape[1]
    options = CPGOptions(ksize, ignore_index, ignore_policy, use_sigmoid=num_classes == 1)
    if num_classes == 1 and not use_sigmoid:
        raise ValueError('use_sigmoid must be True for logits with one channel, got False')
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    class_weight = check_factor('class_weight', class_weight, (num_classes,), logits)
    cpg_class_weight = check_factor('cpg_class_weight', cpg_class_weight, (num_classes,), logits)
    refuse_gradient('class_weight', class_weight)
    refuse_gradient('cpg_class_weight', cpg_class_weight, "; cpg_loss with implementation='dense' computes it")
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    main = CrossEntropy(use_sigmoid, ignore_index, class_weight, num_classes)

    if targets is not None:
        check_targets(targets, label, options, max(num_classes, 2))
    choice = choose_fused_implementation(logits, options, use_sigmoid, reduction, implementation)
    warn_of_fallback('cross_entropy_cpg_loss', choice)

    if choice.name == 'sparse':
        refuse_gradient('weight', weight, " by implementation='sparse'; 'separate' computes it")
        return _sparse_losses(
            logits,
            label,
            options,
            cpg_class_weight,
            main,
            targets,
            weight=weight,
            ce_weight=ce_weight,
            cpg_weight=cpg_weight,
            avg_non_ignore=avg_non_ignore,
            avg_factor=avg_factor,
            reduction=reduction,
        )
    main_error, label_weight, error, num_entries = FUSED_ERRORS[choice.name](
        logits, label, options, cpg_class_weight, main, targets
    )
    divisor = main.divisor(label_weight, label.numel(), avg_non_ignore) if avg_factor is None else avg_factor
    reduce = partial(reduce_error, weight=weight, reduction=reduction)
    cross_entropy = ce_weight * reduce(main_error, avg_factor=divisor)
    cpg = cpg_weight * reduce(error, num_entries, avg_factor=avg_factor)
    return CrossEntropyCPG(cross_entropy + cpg, cross_entropy.detach(), cpg.detach())


def _sparse_losses(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    cpg_class_weight: Tensor | None,
    main: CrossEntropy,
    targets: BoundaryTargets | None,
    *,
    weight: Tensor | None,
    ce_weight: float,
    cpg_weight: float,
    avg_non_ignore: bool,
    avg_factor: float | Tensor | None,
    reduction: str,
) -> CrossEntropyCPG:
    """What :func:`cross_entropy_cpg_loss` returns, by ``'sparse'``, which has the divisors of means in its factors."""
    if targets is None:
        targets = targets_of_batch(label, options, main.num_classes)
    if reduction == 'mean':
        if avg_factor is None:
            ce_divisor, cpg_divisor = _divisors(label, targets, main, avg_non_ignore)
        else:
            ce_divisor = cpg_divisor = avg_factor
        ce_weight, cpg_weight = (
            float(factor / torch.as_tensor(divisor, dtype=torch.float64, device=label.device))
            for factor, divisor in ((ce_weight, ce_divisor), (cpg_weight, cpg_divisor))
        )
    return CrossEntropyCPG(
        *sparse_cross_entropy_cpg(logits, label, targets, main, weight, cpg_class_weight, ce_weight, cpg_weight)
    )


@run_alone
def _divisors(
    label: Tensor, targets: BoundaryTargets, main: CrossEntropy, avg_non_ignore: bool
) -> tuple[float | Tensor, float | Tensor]:
    """Divisors of the means of the main loss and the CPG loss."""
    ce_divisor = main.divisor(main.label_weight(label), label.numel(), avg_non_ignore)
    return ce_divisor, targets.edge_true.count_nonzero().clamp(min=1)
