r"""Cross-entropy and CPG loss in one pass over the logits, forward and backward, in plain torch.

Both need the softmax P, and both gradients are of the logits' size. Here P is made once, in the very buffer that the
gradient is returned in:

1. for pieces of all pixels: exp(z) into the buffer, its sum over the classes, and the cross-entropy;
2. for the tiles at boundaries: the CPG error, and its gradient g with respect to P (Eq. 14, 15), which is non-zero for
   two or three classes of a pixel;
3. for pieces of all pixels: P \cdot (w - \sum_c P g) - w y, with w the cross-entropy's factor of a pixel; then P g is
   added where g is not zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _memory
from .._common import chunk_slices, compute_dtype, reduce_error, refuse_second_derivative, refuse_transforms
from .._threads import parallel_map
from .._validation import (
    check_avg_factor,
    check_factor,
    check_ids,
    check_label,
    check_logits,
    check_number,
    check_reduction,
)
from .cross_entropy import CrossEntropy
from .loss import cpg_loss
from .options import CPGOptions
from .pairs import Pairs, entry_slices, indices_of_pairs
from .targets import BoundaryTargets, check_targets, targets_of_batch, targets_of_image

# Where the sum of exp(z) over the classes and its share of the label's class are inside, exp(z) needs no shift.
_LOWEST_SUM, _HIGHEST_SUM, _LOWEST_PROBABILITY = 1e-10, 1e30, 1e-30


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
) -> CrossEntropyCPG:
    """Cross-entropy and CPG loss together, in one pass over the logits on CPU.

    The main loss is that of MMSegmentation's ``CrossEntropyLoss``, the other one :func:`cpg_loss`. On CPU both share
    the softmax, and the gradient is computed with the value, in one tensor of the logits' size. On other
    devices, for ``reduction='none'`` and for one channel, the two are computed one after the other.

    Args:
        logits: (B, C, H, W), float16, bfloat16, float32 or float64, any memory format. Never modified. Computed with in
            float32 (float64 for float64), also under autocast.
        label: (B, H, W), any integer dtype, class ids in [0, max(C, 2)) or ``ignore_index``.
        ksize: Odd kernel size of the CPG loss in [3, 11].
        ce_weight: Factor of the main loss.
        cpg_weight: Factor of the CPG loss, the paper's lambda.
        use_sigmoid: The main loss is binary cross-entropy, class by class, as in the paper on Cityscapes; the CPG loss
            keeps the softmax. Must be True for C = 1, where the CPG loss takes the sigmoid, too.
        ignore_index: Id of void pixels in the label.
        ignore_policy: What void pixels are to the CPG loss, ``'exclude'`` or ``'as_background'``.
        weight: (B, H, W), factor of each pixel in both losses.
        class_weight: (C,), in the main loss the factor of each pixel by its class; with ``use_sigmoid`` that of the
            positive term of each class.
        cpg_class_weight: (C,), factor of each class in the CPG loss.
        avg_non_ignore: The main loss is a mean over the pixels that are not void instead of all. With ``class_weight``
            and without ``use_sigmoid`` it is the weighted mean over the pixels that are not void in either case.
        avg_factor: Divisor of both losses for ``'mean'``, in place of the numbers of their terms, >= 0.
        reduction: 'mean' or 'sum', or 'none' for values of each pixel (with ``use_sigmoid`` summed over the classes).
        targets: Precomputed ``boundary_targets(label, ksize, ...)``, on the logits' device.

    Returns:
        The total with the gradient, and both parts of it: scalars, or (B, H, W) for ``reduction='none'``; float32, or
        float64 for float64 logits. Twice differentiating the total raises RuntimeError.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value, or the arguments do not fit each other.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> cross_entropy_cpg_loss(logits, label, ksize=3).total.backward()
    """
    options = CPGOptions(ksize, ignore_index, ignore_policy)
    check_reduction(reduction)
    for name, value in (('ce_weight', ce_weight), ('cpg_weight', cpg_weight)):
        check_number(name, value)
    label = check_label(label)
    check_logits(logits, label)
    num_classes = logits.shape[1]
    if num_classes == 1 and not use_sigmoid:
        raise ValueError('use_sigmoid must be True for logits with one channel, got False')
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    class_weight = check_factor('class_weight', class_weight, (num_classes,), logits)
    cpg_class_weight = check_factor('cpg_class_weight', cpg_class_weight, (num_classes,), logits)
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    main = CrossEntropy(use_sigmoid, ignore_index, class_weight, num_classes)

    if logits.device.type != 'cpu' or reduction == 'none' or num_classes == 1:
        cpg = cpg_weight * cpg_loss(
            logits,
            label,
            ksize,
            ignore_index=ignore_index,
            ignore_policy=ignore_policy,
            weight=weight,
            class_weight=cpg_class_weight,
            avg_factor=avg_factor,
            reduction=reduction,
            targets=targets,
        )
        error = main.of_pixels(logits, label)
        divisor = main.divisor(label, avg_non_ignore) if reduction == 'mean' and avg_factor is None else avg_factor
        cross_entropy = ce_weight * reduce_error(error, weight=weight, avg_factor=divisor, reduction=reduction)
        return CrossEntropyCPG(cross_entropy + cpg, cross_entropy.detach(), cpg.detach())

    refuse_transforms('cross_entropy_cpg_loss')
    if targets is None:
        targets = targets_of_batch(label, options, num_classes)
    else:
        check_targets(targets, label, options)
        check_ids('class ids of the label that targets were computed from', targets.class_index, num_classes)
    if reduction == 'mean':
        ce_divisor = main.divisor(label, avg_non_ignore) if avg_factor is None else avg_factor
        cpg_divisor = targets.edge_true.count_nonzero().clamp(min=1) if avg_factor is None else avg_factor
        ce_weight, cpg_weight = float(ce_weight / ce_divisor), float(cpg_weight / cpg_divisor)
    return CrossEntropyCPG(*_Fused.apply(logits, label, targets, main, weight, cpg_class_weight, ce_weight, cpg_weight))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        logits: Tensor,
        label: Tensor,
        targets: BoundaryTargets,
        main: CrossEntropy,
        weight: Tensor | None,
        cpg_class_weight: Tensor | None,
        ce_weight: float,
        cpg_weight: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0]
        buffers = _memory.zeros(
            (len(logits) if needs_gradient else 1, *logits.shape[1:]), compute_dtype(logits), logits.device
        )
        cross_entropy, cpg = buffers.new_zeros(()), buffers.new_zeros(())
        for image in range(len(logits)):
            work = _Image(
                logits=logits[image].flatten(1),
                label=label[image].flatten(),
                weight=None if weight is None else weight[image].flatten(),
                buffer=buffers[image if needs_gradient else 0].flatten(1),
                targets=targets_of_image(targets, image),
                main=main,
                cpg_class_weight=cpg_class_weight,
                ce_weight=ce_weight,
                cpg_weight=cpg_weight,
            )
            cross_entropy += work.softmax()
            cpg += work.cpg(needs_gradient)
            if needs_gradient:
                work.finish()
        if needs_gradient:
            ctx.save_for_backward(buffers.to(logits.dtype))
        ctx.mark_non_differentiable(cross_entropy, cpg)
        return cross_entropy + cpg, cross_entropy, cpg

    @staticmethod
    def backward(ctx, grad_total: Tensor, *_) -> tuple[Tensor | None, ...]:
        refuse_second_derivative('cross_entropy_cpg_loss')
        (gradient,) = ctx.saved_tensors
        # A copy would cost as much again as it does to write the gradient.
        return (gradient if grad_total == 1 else gradient * grad_total, *[None] * 7)


class _Image:
    """One image's share of the losses and of the gradient.

    z: logits (C, pixels); e = exp(z), or exp(z - max(z)) where that is out of range; P = e * scale.
    """

    def __init__(
        self,
        *,
        logits: Tensor,
        label: Tensor,
        weight: Tensor | None,
        buffer: Tensor,
        targets: BoundaryTargets,
        main: CrossEntropy,
        cpg_class_weight: Tensor | None,
        ce_weight: float,
        cpg_weight: float,
    ) -> None:
        self._logits, self._label, self._weight, self._buffer = logits, label, weight, buffer
        self._targets, self._main, self._cpg_class_weight = targets, main, cpg_class_weight
        self._ce_weight, self._cpg_weight = ce_weight, cpg_weight
        self._pieces = chunk_slices(len(label), len(logits), logits.device)
        self._scale = buffer.new_empty(len(label))
        self._shift = buffer.new_zeros(len(label))  # sum of P g over the classes
        self._ids, self._additions = [], []

    def softmax(self) -> Tensor:
        """Fill the buffer with e; return the main loss."""
        total = self._buffer.new_zeros(())
        for error, ids, factor in parallel_map(self._softmax_of_piece, self._pieces, self._label.device):
            total += error
            self._ids.append((ids, factor))
        return total

    def cpg(self, needs_gradient: bool) -> Tensor:
        """The CPG loss."""
        total = self._buffer.new_zeros(())

        def compute(entries: slice) -> tuple[Tensor, ...]:
            return self._cpg_of_entries(Pairs(self._targets, entries, len(self._logits)), needs_gradient)

        for loss, *gradient in parallel_map(compute, entry_slices(self._targets), self._label.device):
            total += loss
            if needs_gradient:  # halos overlap: added by one thread, and in order
                pair, pixel, addition = gradient
                self._shift.index_add_(0, pixel.view(-1), addition.view(-1))
                self._additions.append((pair, addition))
        return total

    def finish(self) -> None:
        """Turn the buffer into the gradient of both losses."""
        pieces = zip(self._pieces, self._ids, strict=True)
        for _ in parallel_map(self._gradient_of_piece, pieces, self._label.device):
            pass
        targets = self._targets
        for pair, addition in self._additions:
            _, element = indices_of_pairs(pair, targets.shape, len(self._logits), targets.ksize)
            self._buffer.view(-1).index_add_(0, element.view(-1), addition.view(-1))

    def _softmax_of_piece(self, piece: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Fill a piece of the buffer; return its main loss, class ids, and factors of the main loss."""
        ids, void = self._main.ids(self._label[piece])
        logits = self._logits[:, piece].to(self._buffer.dtype)
        exponential = torch.exp(logits, out=self._buffer[:, piece])
        total = exponential.sum(0)
        scale = total.reciprocal()
        likelihood = exponential.gather(0, ids[None])[0].mul_(scale)
        in_range = total.amax() < _HIGHEST_SUM and total.amin() > _LOWEST_SUM
        if in_range and likelihood.amin() > _LOWEST_PROBABILITY:
            error = likelihood.log_().neg_()
        else:
            torch.sub(logits, logits.amax(0), out=exponential)
            error = -exponential.gather(0, ids[None])[0]
            total = exponential.exp_().sum(0)
            scale = total.reciprocal()
            error += total.log_()
        self._scale[piece] = scale
        if self._main.use_sigmoid:
            error = self._binary_error(logits, ids)
        factor = self._factor(piece, ids).masked_fill_(void, 0)
        error = error.masked_fill_(void, 0).mul_(factor).sum()
        return error, ids.to(torch.uint8 if len(logits) <= 256 else torch.int32), factor

    def _binary_error(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the classes: softplus(z), and softplus(-z) for the label's class."""
        signed = _negate(logits, ids)
        error = F.softplus(signed).sum(0)
        if self._main.class_weight is not None:
            error += F.softplus(signed.gather(0, ids[None])[0]) * (self._main.class_weight[ids] - 1)
        return error

    def _factor(self, piece: slice, ids: Tensor) -> Tensor:
        """What the main loss of each pixel is multiplied by."""
        factor = self._buffer.new_full(ids.shape, self._ce_weight)
        if self._weight is not None:
            factor *= self._weight[piece]
        if self._main.class_weight is not None and not self._main.use_sigmoid:
            factor *= self._main.class_weight[ids]
        return factor

    def _cpg_of_entries(self, pairs: Pairs, needs_gradient: bool) -> tuple[Tensor, ...]:
        pixel, element = pairs.gather_indices()
        probability = _take(self._buffer, element).mul_(_take(self._scale, pixel))
        residual = pairs.residual(probability)
        factor = self._cpg_factor(pairs.entries)
        loss = (residual.square().sum(0) * factor).sum()
        if not needs_gradient:
            return (loss,)
        gradient = pairs.residual_backward(residual.mul_(2 * factor))
        is_nan = probability.sum().isnan()
        addition = probability.mul_(gradient)
        if is_nan:  # pixels that no boundary window reads
            addition.masked_fill_(gradient == 0, 0)
        return loss, pairs.pair, pixel, addition

    def _cpg_factor(self, entries: slice) -> float | Tensor:
        """What the squared error of each entry is multiplied by."""
        factor = self._cpg_weight
        if self._weight is not None:
            factor = factor * self._weight.index_select(0, self._targets.pixel[entries])
        if self._cpg_class_weight is not None:
            factor = factor * self._cpg_class_weight.index_select(0, self._targets.class_index[entries].int())
        return factor

    def _gradient_of_piece(self, part: tuple[slice, tuple[Tensor, Tensor]]) -> None:
        piece, (ids, factor) = part
        ids = ids.long()
        gradient, shift, scale = self._buffer[:, piece], self._shift[piece], self._scale[piece]
        if self._main.use_sigmoid:
            gradient.mul_(-shift * scale)
            signed = _negate(self._logits[:, piece].to(gradient.dtype), ids).sigmoid_()
            negative = signed.gather(0, ids[None]).neg_()
            if self._main.class_weight is not None:
                negative *= self._main.class_weight[ids]
            gradient += signed.scatter_(0, ids[None], negative).mul_(factor)
        else:
            gradient.mul_((factor - shift) * scale).scatter_add_(0, ids[None], -factor[None])
        is_nan = scale.isnan()
        if is_nan.any():  # a pixel with no part in either loss has no gradient, whatever its logits are
            gradient.masked_fill_(is_nan & (factor == 0) & (shift == 0), 0)


def _negate(logits: Tensor, ids: Tensor) -> Tensor:
    """Logits (C, pixels) with the sign of the label's class turned."""
    return logits.scatter(0, ids[None], -logits.gather(0, ids[None]))


def _take(values: Tensor, index: Tensor) -> Tensor:
    return values.view(-1).index_select(0, index.view(-1)).view(index.shape)
