"""The squared difference of Sobel responses at all pixels: a common ad-hoc edge loss.

z: logits; P: their probabilities; T: one-hot label; S: the Sobel-like kernels (CPG paper, Eq. 8, 9); Ĝ = S * P and
G = S * T: Sobel responses. As S is linear, the residual Ĝ - G is S * (P - T). Valid: pixels whose window has no
void. Receptive: pixels in the window of a valid one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import chunk_slices, compute_dtype, reduce_error, refuse_second_derivative, refuse_transforms
from ._morphology import dilate
from ._probability import probability_backward_, probability_of_image
from ._validation import check_avg_factor, check_factor, check_pixels, check_reduction, refuse_gradient
from .cpg.sobel import add_x_adjoint, add_x_gradient, check_ksize, sobel_numerators


@torch.compiler.disable
def sobel_loss(
    logits: Tensor,
    label: Tensor,
    ksize: int = 3,
    *,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    class_weight: list[float] | Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    r"""Squared difference of the Sobel responses of prediction and label, at all pixels and classes.

    .. math:: L = \frac{1}{N} \sum (Ĝ - G)^2, \quad Ĝ = S \star P, \quad G = S \star T

    with P = softmax(logits), T the one-hot label, S the two Sobel-like kernels and :math:`\star` cross-correlation with
    replicate padding (Eq. 5, 8, 9 of Shan & Jia, arXiv 2404.06704). Sums run over images, classes, both directions and
    the valid pixels; N is the number of their terms. It is :func:`~mmseg_cpg.ops.cpg_loss` without its mask of
    boundary entries (M = 1 in Eq. 14, 15), and equals ``mse_loss(sobel(softmax(logits)), sobel(one_hot))``.

    Not from a paper; defined here as follows. A pixel is valid if its k x k window has no void pixel; if void outlines
    every object, no boundary is left. At ksize 3 the kernel is half the usual Sobel kernel, so the loss is a quarter of
    one with the usual kernel. The mean is over all classes, most of which have no gradient at most pixels: the value is
    small and decreases with the number of classes.

    Memory: the gradient, the probabilities of one image, and buffers for a few classes at a time.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation: P is the sigmoid, and T = [label = 1].
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        ksize: Odd kernel size in [3, 11].
        ignore_index: Id of void pixels in the label.
        weight: (B, H, W), factor of each pixel.
        class_weight: (C,), factor of each channel.
        avg_factor: Divisor for ``'mean'`` in place of N, number or scalar tensor >= 0.
        reduction: ``'none'`` gives :math:`e = weight \cdot \sum_{c,d} class\_weight \cdot (Ĝ - G)^2` of each pixel, 0
            where it is not valid, ``'sum'`` its sum, ``'mean'`` the sum over N (unweighted) or ``avg_factor``.

    Returns:
        Scalar, or (B, H, W) for ``reduction='none'``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> sobel_loss(logits, label).backward()
    """
    refuse_transforms('sobel_loss')
    ksize = check_ksize(ksize)
    check_reduction(reduction)
    ids, void = check_pixels(logits, label, ignore_index)
    num_classes = logits.shape[1]
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    class_weight = check_factor('class_weight', class_weight, (num_classes,), logits)
    refuse_gradient('class_weight', class_weight)
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    valid = ~dilate(void, ksize)
    error = _SquaredDifference.apply(logits, ids, valid, class_weight, ksize)
    return reduce_error(error, 2 * num_classes * valid.sum(), weight=weight, avg_factor=avg_factor, reduction=reduction)


class _SquaredDifference(torch.autograd.Function):
    """(Ĝ - G)^2, weighted and summed over classes and directions: (B, H, W)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, ids: Tensor, valid: Tensor, class_weight: Tensor | None, ksize: int
    ) -> Tensor:
        receptive = dilate(valid, ksize)
        ctx.save_for_backward(logits, ids, valid, receptive, class_weight)
        ctx.ksize = ksize
        error = logits.new_zeros(ids.shape, dtype=compute_dtype(logits))
        for image, into in enumerate(error):
            probability = probability_of_image(logits[image], receptive[image])
            for classes, x_gradient, y_gradient in _differences(probability, ids[image], ksize):
                square = x_gradient.square_().add_(y_gradient.square_())
                if class_weight is not None:
                    square *= class_weight[classes, None, None]
                into += square.sum(0)
        error /= _denominator(ksize) ** 2
        return error.masked_fill_(~valid, 0)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        refuse_second_derivative('sobel_loss')
        logits, ids, valid, receptive, class_weight = ctx.saved_tensors
        ksize, factor = ctx.ksize, grad_output * (2 / _denominator(ctx.ksize) ** 2)
        grad_logits = torch.empty_like(logits, memory_format=torch.contiguous_format)
        for image, into in enumerate(grad_logits):
            probability = probability_of_image(logits[image], receptive[image])
            grad = into if into.dtype == probability.dtype else torch.empty_like(probability)
            for classes, x_gradient, y_gradient in _differences(probability, ids[image], ksize):
                scale = factor[image] if class_weight is None else factor[image] * class_weight[classes, None, None]
                for gradient in (x_gradient, y_gradient):
                    gradient.mul_(scale).masked_fill_(~valid[image], 0)
                grad[classes] = _adjoint(x_gradient, y_gradient, ksize)
            into.copy_(probability_backward_(grad, probability))
        return grad_logits, None, None, None, None


def _differences(probability: Tensor, ids: Tensor, ksize: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield the x and the y gradient of P - T for a few classes at a time, times the kernels' denominator.

    Yields:
        Slice of the classes, and two (classes, H, W) tensors, which the caller may overwrite.
    """
    num_classes, first = len(probability), 1 if len(probability) == 1 else 0  # a single channel is class 1
    class_index = torch.arange(first, first + num_classes, device=ids.device)[:, None, None]
    for classes in chunk_slices(num_classes, ids.numel(), ids.device):
        difference = probability[classes] - (ids == class_index[classes]).to(probability.dtype)
        difference = F.pad(difference[None], [ksize // 2] * 4, mode='replicate')[0]
        x_gradient, y_gradient = torch.zeros_like(probability[classes]), torch.zeros_like(probability[classes])
        add_x_gradient(x_gradient.permute(1, 2, 0), difference.permute(1, 2, 0), ksize)
        add_x_gradient(y_gradient.permute(2, 1, 0), difference.permute(2, 1, 0), ksize)
        yield classes, x_gradient, y_gradient


def _adjoint(x_gradient: Tensor, y_gradient: Tensor, ksize: int) -> Tensor:
    """The transpose of padding and correlation: from gradients, (n, H, W) each, back to the image."""
    radius, (count, height, width) = ksize // 2, x_gradient.shape
    padded = x_gradient.new_zeros(count, height + 2 * radius, width + 2 * radius)
    add_x_adjoint(padded.permute(1, 2, 0), x_gradient.permute(1, 2, 0), ksize)
    add_x_adjoint(padded.permute(2, 1, 0), y_gradient.permute(2, 1, 0), ksize)
    for dim, length in ((1, height), (2, width)):
        # Replicate padding copies the first and the last row and column, whose gradients add up.
        inner = padded.narrow(dim, radius, length)
        inner.narrow(dim, 0, 1).add_(padded.narrow(dim, 0, radius).sum(dim, keepdim=True))
        inner.narrow(dim, length - 1, 1).add_(padded.narrow(dim, radius + length, radius).sum(dim, keepdim=True))
        padded = inner
    return padded


def _denominator(ksize: int) -> int:
    return sobel_numerators(ksize)[1]
