r"""Cross-entropy and CPG loss in one pass over the logits, forward and backward, in plain torch on the CPU.

Both losses need the softmax P, and both gradients have the size of the logits. Here P is computed once, in the buffer
that becomes the gradient. Every band of the batch goes through four steps:

1. exp(z) into the buffer, its sum over the classes, and the cross-entropy;
2. at boundaries: the CPG error, and its gradient g with respect to P (Eq. 14, 15), which is non-zero for two or three
   classes of a pixel;
3. P \cdot (w - \sum_c P g) - w y into the buffer, with w the cross-entropy's factor of a pixel;
4. P g is added where g is not zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _memory
from .._common import compute_dtype, refuse_second_derivative, refuse_transforms
from .._threads import parallel_map
from .bands import Band, Job, bands_of_batch, schedule
from .cross_entropy import CrossEntropy
from .pairs import Pairs, entry_slices, indices_of_pairs, take_flat
from .targets import BoundaryTargets

# Within these limits of the sum of exp(z) over the classes and of the label's probability, exp(z) needs no shift.
_LOWEST_SUM, _HIGHEST_SUM, _LOWEST_PROBABILITY = 1e-10, 1e30, 1e-30
# Only the bands of noise-like labels have more.
_ENTRIES_OF_PART = 2**16
# Elements of a half-precision gradient that are scaled at once, a few MiB.
_ELEMENTS_OF_PART = 2**20
# The product of so many terms 1 + exp(z) fits float32 up to z = 11.
_CLASSES_OF_PART = 8


def sparse_cross_entropy_cpg(
    logits: Tensor,
    label: Tensor,
    targets: BoundaryTargets,
    main: CrossEntropy,
    weight: Tensor | None,
    cpg_class_weight: Tensor | None,
    ce_weight: float,
    cpg_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of both losses.

    Args:
        logits: (B, C, H, W) on the CPU, C > 1.
        label: (B, H, W).
        targets: Of the label.
        main: The main loss.
        weight: (B, H, W), factor of each pixel in both losses.
        cpg_class_weight: (C,), factor of each class in the CPG loss.
        ce_weight: Factor of the main loss's sum.
        cpg_weight: Factor of the CPG loss's sum.

    Returns:
        Total, main loss and CPG loss, scalars. Only the total has a gradient.
    """
    refuse_transforms('cross_entropy_cpg_loss')
    batch = _Batch(logits, label, targets, main, weight, cpg_class_weight, ce_weight, cpg_weight)
    if torch.is_grad_enabled() and logits.requires_grad:
        return _Fused.apply(logits, batch)
    cross_entropy, cpg = batch.run(with_gradient=False)
    return cross_entropy + cpg, cross_entropy, cpg


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, batch: _Batch) -> tuple[Tensor, Tensor, Tensor]:
        cross_entropy, cpg = batch.run(with_gradient=True)
        # In float32 for half precision too: the factor of a scaled loss, which comes later, brings it into range.
        ctx.save_for_backward(batch.buffer)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(cross_entropy, cpg)
        return cross_entropy + cpg, cross_entropy, cpg

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative('cross_entropy_cpg_loss')
        (gradient,) = ctx.saved_tensors
        if gradient.dtype == ctx.dtype:
            # A copy would cost as much again as it does to write the gradient.
            return (gradient if grad_total == 1 else gradient * grad_total, None)
        rounded = torch.empty_like(gradient, dtype=ctx.dtype)
        for part, result in zip(*(each.view(-1).split(_ELEMENTS_OF_PART) for each in (gradient, rounded)), strict=True):
            result.copy_(part * grad_total)
        return rounded, None


class _Work(NamedTuple):
    """What the first step of a band passes to the third.

    Attributes:
        ids: (n,) uint8 or int32, class of each pixel.
        factor: (n,), factor of each pixel in the main loss, 0 at void pixels.
        is_shifted: Whether the buffer has exp(z - max(z)) instead of exp(z).
    """

    ids: Tensor
    factor: Tensor
    is_shifted: bool


class _Batch:
    """The steps of all bands of a batch.

    e = exp(z), or exp(z - max(z)) where that is out of range; P = e * scale.

    Attributes:
        buffer: (B, C, H, W): e, then the gradient of the logits.
    """

    def __init__(
        self,
        logits: Tensor,
        label: Tensor,
        targets: BoundaryTargets,
        main: CrossEntropy,
        weight: Tensor | None,
        cpg_class_weight: Tensor | None,
        ce_weight: float,
        cpg_weight: float,
    ) -> None:
        self._logits, self._label, self._targets, self._main = logits, label, targets, main
        self._weight, self._cpg_class_weight = weight, cpg_class_weight
        self._ce_weight, self._cpg_weight = ce_weight, cpg_weight
        dtype = compute_dtype(logits)
        self.buffer = _memory.zeros(logits.shape, dtype, logits.device)
        self._scale = _memory.zeros((label.numel(),), dtype, logits.device)
        self._shift = _memory.zeros((label.numel(),), dtype, logits.device)  # sum of P g over the classes
        self._bands = bands_of_batch(targets, logits.shape[1])
        self._errors = self.buffer.new_zeros(2, len(self._bands))
        self._work: dict[int, _Work] = {}
        # For each band: its pairs, and P g under their tiles and halos.
        self._additions: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def run(self, with_gradient: bool) -> tuple[Tensor, Tensor]:
        """Return the main loss and the CPG loss; on request leave the gradient in the buffer."""
        steps = [self._softmax, self._cpg_with_gradient, self._finish, self._add]
        is_noise = len(self._targets) > self._label.numel()
        if not with_gradient:
            steps = [self._softmax, self._cpg]
        for jobs in schedule(len(self._bands), steps, most=2 if is_noise else 16):
            for _ in parallel_map(_call_all, jobs, self._label.device):
                pass
        cross_entropy, cpg = self._errors.sum(1)
        return cross_entropy, cpg

    def _softmax(self, number: int) -> None:
        """Fill a band of the buffer with e, and compute its main loss."""
        band = self._bands[number]
        ids, void = self._main.ids(_rows(self._label, band))
        logits = _columns(self._logits, band).to(self.buffer.dtype)
        exponential = torch.exp(logits, out=_columns(self.buffer, band))
        element = self._element(band, ids)
        total = exponential.sum(0)
        scale = total.reciprocal()
        likelihood = self._flat.index_select(0, element).mul_(scale)
        is_shifted = not (
            total.amax() < _HIGHEST_SUM and total.amin() > _LOWEST_SUM and likelihood.amin() > _LOWEST_PROBABILITY
        )
        if is_shifted:
            torch.sub(logits, logits.amax(0), out=exponential)
            error = -self._flat.index_select(0, element)
            total = exponential.exp_().sum(0)
            scale = total.reciprocal()
            error += total.log_()
        else:
            error = likelihood.log_().neg_()
        self._scale[self._pixels(band)] = scale
        if self._main.use_sigmoid:
            error = self._binary_error(logits, band, ids, element, is_shifted)
        factor = self._factor(band, ids, void)
        loss = (error * factor).sum()
        if not loss.isfinite():  # logits of void pixels may have any value
            loss = error.masked_fill_(void, 0).mul_(factor).sum()
        self._errors[0, number] = loss
        ids = ids.to(torch.uint8 if len(logits) <= 256 else torch.int32)
        self._work[number] = _Work(ids, factor, is_shifted)

    def _binary_error(self, logits: Tensor, band: Band, ids: Tensor, element: Tensor, is_shifted: bool) -> Tensor:
        """Binary cross-entropy, summed over the classes: log(1 + exp(z)), and log(1 + exp(-z)) for the label's."""
        weight = None if self._main.class_weight is None else self._main.class_weight[ids]
        if not is_shifted:
            of_label = self._flat.index_select(0, element)
            # For a moment, to save a copy of the band. With weights, the label's term is added by itself.
            in_its_place = of_label.reciprocal() if weight is None else torch.zeros_like(of_label)
            self._flat.index_copy_(0, element, in_its_place)
            # The logarithm of a product instead of a sum of logarithms, which takes several times as long.
            parts = _columns(self.buffer, band).split(_CLASSES_OF_PART)
            error = sum((part + 1).prod(0).log_() for part in parts)
            self._flat.index_copy_(0, element, of_label)
            if weight is not None:
                error += of_label.reciprocal_().add_(1).log_() * weight
            if error.sum().isfinite():
                return error
        error = F.softplus(_negate(logits, ids))
        if weight is not None:
            error.scatter_(0, ids[None], error.gather(0, ids[None]) * weight)
        return error.sum(0)

    def _factor(self, band: Band, ids: Tensor, void: Tensor) -> Tensor:
        """What the main loss of each pixel is multiplied by."""
        factor = torch.full_like(ids, self._ce_weight, dtype=self.buffer.dtype)
        if self._weight is not None:
            factor *= _rows(self._weight, band)
        if self._main.class_weight is not None and not self._main.use_sigmoid:
            factor *= self._main.class_weight[ids]
        return factor.masked_fill_(void, 0)  # last: the weight of class 0 is no weight of void pixels

    def _cpg(self, number: int) -> None:
        """The CPG loss of the entries in a band."""
        for pairs in self._pairs(number):
            self._cpg_error(number, pairs, *pairs.gather_indices())

    def _cpg_with_gradient(self, number: int) -> None:
        """The CPG loss of the entries in a band; its gradient with respect to P, times P, is kept for step 4."""
        additions = self._additions[number] = []
        for pairs in self._pairs(number):
            pixel, element = pairs.gather_indices()
            probability, residual, factor = self._cpg_error(number, pairs, pixel, element)
            gradient = pairs.residual_backward(residual.mul_(2 * factor))
            is_nan = probability.sum().isnan()
            addition = probability.mul_(gradient)
            if is_nan:  # pixels that no boundary window reads
                addition.masked_fill_(gradient == 0, 0)
            self._shift.index_add_(0, pixel.view(-1), addition.view(-1))
            additions.append((pairs.pair, addition))

    def _pairs(self, number: int) -> Iterator[Pairs]:
        for entries in entry_slices(self._bands[number].entries, _ENTRIES_OF_PART):
            yield Pairs(self._targets, entries, self.buffer.shape[1])

    def _cpg_error(
        self, number: int, pairs: Pairs, pixel: Tensor, element: Tensor
    ) -> tuple[Tensor, Tensor, float | Tensor]:
        """Add the CPG loss of some pairs; return the probabilities, the residual and the factors of the entries."""
        probability = take_flat(self.buffer, element).mul_(take_flat(self._scale, pixel))
        residual = pairs.residual(probability)
        factor: float | Tensor = self._cpg_weight
        if self._weight is not None:
            factor = factor * take_flat(self._weight, self._targets.pixel[pairs.entries])
        if self._cpg_class_weight is not None:
            factor = factor * self._cpg_class_weight.index_select(0, self._targets.class_index[pairs.entries].int())
        self._errors[1, number] += (residual.square().sum(0) * factor).sum()
        return probability, residual, factor

    def _finish(self, number: int) -> None:
        """Turn a band of the buffer into the gradient, except for what :meth:`_add` adds."""
        band, work = self._bands[number], self._work.pop(number)
        ids = work.ids.long()
        pixels = self._pixels(band)
        gradient, shift, scale = _columns(self.buffer, band), self._shift[pixels], self._scale[pixels]
        if self._main.use_sigmoid:
            self._binary_gradient(gradient, shift * scale, band, ids, work)
        else:
            gradient.mul_((work.factor - shift) * scale)
            self._flat.index_add_(0, self._element(band, ids), -work.factor)
        if work.is_shifted:
            # A pixel that is in neither loss has no gradient, even if its logits are NaN.
            gradient.masked_fill_(scale.isnan() & (work.factor == 0) & (shift == 0), 0)

    def _binary_gradient(self, gradient: Tensor, shift: Tensor, band: Band, ids: Tensor, work: _Work) -> None:
        """w (sigmoid(z) - y) - e * shift, in place of e."""
        factor_of_label = work.factor
        if self._main.class_weight is not None:
            factor_of_label = (work.factor * self._main.class_weight[ids]).masked_fill_(work.factor == 0, 0)
        if work.is_shifted:
            signed = _negate(_columns(self._logits, band).to(gradient.dtype), ids).sigmoid_()
            of_label = signed.gather(0, ids[None]).neg_().mul_(factor_of_label)
            gradient.mul_(-shift).add_(signed.mul_(work.factor).scatter_(0, ids[None], of_label))
            return
        element = self._element(band, ids)
        of_label = self._flat.index_select(0, element)
        of_label = (of_label + 1).reciprocal_().mul_(factor_of_label).add_(of_label.mul_(shift))
        for part in gradient.split(_CLASSES_OF_PART):
            part.mul_((part + 1).reciprocal_().mul_(work.factor).sub_(shift))  # e (w (1 - sigmoid(z)) - shift)
        self._flat.index_copy_(0, element, of_label.neg_())

    def _add(self, number: int) -> None:
        """Add P g where it is not zero, up to a tile away from the band."""
        for pair, addition in self._additions.pop(number):
            _, element = indices_of_pairs(pair, self._targets.shape, self.buffer.shape[1], self._targets.ksize)
            self._flat.index_add_(0, element.view(-1), addition.view(-1))

    @property
    def _flat(self) -> Tensor:
        return self.buffer.view(-1)

    def _pixels(self, band: Band) -> slice:
        """Where a band lies in (B, H, W), flattened."""
        _, height, width = self._label.shape
        return slice(*((band.image * height + row) * width for row in (band.rows.start, band.rows.stop)))

    def _element(self, band: Band, ids: Tensor) -> Tensor:
        """Where one class of each pixel of a band lies in the buffer, flattened."""
        _, num_classes, height, width = self.buffer.shape
        start = (band.image * num_classes * height + band.rows.start) * width
        return torch.arange(start, start + len(ids), device=ids.device).add_(ids, alpha=height * width)


def _call_all(job: Job) -> None:
    for step in job:
        step()


def _rows(values: Tensor, band: Band) -> Tensor:
    """A band of (B, H, W), as (pixels,)."""
    return values[band.image, band.rows].flatten()


def _columns(values: Tensor, band: Band) -> Tensor:
    """A band of (B, C, H, W), as (C, pixels)."""
    return values[band.image, :, band.rows].flatten(1)


def _negate(logits: Tensor, ids: Tensor) -> Tensor:
    """Logits (C, pixels) with the label's class negated."""
    return logits.scatter(0, ids[None], -logits.gather(0, ids[None]))
