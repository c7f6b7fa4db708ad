"""The boundary F1 score of soft boundaries as a loss (Bokhovkin & Burnaev 2019).

y: probabilities or one-hot label of a class; pd, gt: predicted and true; b: boundary; ext: extended boundary; theta0,
theta: window sizes in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import chunk_slices, compute_dtype, refuse_second_derivative, refuse_transforms
from ._morphology import running_steps
from ._probability import probability_backward_, probability_of_image
from ._validation import check_int, check_pixels


@torch.compiler.disable
def boundary_f1_loss(
    logits: Tensor, label: Tensor, theta0: int = 3, theta: int = 5, *, ignore_index: int = 255
) -> Tensor:
    r"""One minus the F1 score of the soft boundaries that max pooling finds in prediction and label.

    .. math::
        y^b = pool(1 - y, \theta_0) - (1 - y), \quad y^{b,ext} = pool(y^b, \theta)

        P = \frac{\sum y_{pd}^b \cdot y_{gt}^{b,ext}}{\sum y_{pd}^b}, \quad
        R = \frac{\sum y_{gt}^b \cdot y_{pd}^{b,ext}}{\sum y_{gt}^b}, \quad
        BF_1 = \frac{2 P R}{P + R}, \quad L = 1 - BF_1

    (Bokhovkin & Burnaev, Boundary Loss for Remote Sensing Imagery Semantic Segmentation, arXiv 1905.07852), where pool
    is max pooling with stride 1 in square windows clipped to the image, and sums run over one image and one class. The
    boundary is the inner rim of a class. Precision P and recall R tolerate displacements of (theta - 1) / 2 pixels.

    The paper covers binary segmentation, uses theta0 = 3 and advises that theta not exceed the distance between
    neighboring segments. Our choices: With several classes, y is the softmax, and the loss is the mean over those
    (image, class) pairs whose label has a boundary; for all others R is undefined, and P and its gradient are 0, so
    they would only add a constant. Void pixels are excluded from all windows and sums, so a rim along void is not a
    boundary; if void outlines every object, no boundary is left. P is 0 if nothing is predicted. If several pixels
    share the maximum of a window, one of them gets the gradient.

    Memory: the gradient, the probabilities of one image, and buffers for a few classes at a time. On CUDA, finding the
    classes of each image waits for the device.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation: y is the sigmoid, and class 1 is the only
            one.
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        theta0: Odd size in pixels of the window that finds the boundary, at least 3, which gives the thinnest.
        theta: Odd size in pixels of the window that extends it, at least 1.
        ignore_index: Id of void pixels in the label.

    Returns:
        Scalar in [0, 1]; float32, or float64 for float64 logits.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> boundary_f1_loss(logits, label).backward()
    """
    refuse_transforms('boundary_f1_loss')
    theta0, theta = check_thetas(theta0, theta)
    ids, void = check_pixels(logits, label, ignore_index)
    pd_near_gt, pd, gt_near_pd, gt = _Sums.apply(logits, ids, void, theta0, theta).unbind(2)
    # Clamped, since pd and the scores can be 0; gt is a number of pixels.
    eps = torch.finfo(pd.dtype).eps
    precision, recall = pd_near_gt / pd.clamp(min=eps), gt_near_pd / gt.clamp(min=1)
    score = 2 * precision * recall / (precision + recall).clamp(min=eps)
    has_boundary = gt > 0
    return ((1 - score) * has_boundary).sum() / has_boundary.sum().clamp(min=1)


def check_thetas(theta0: int, theta: int) -> tuple[int, int]:
    """Return both window sizes as ints, or raise TypeError or ValueError."""
    for name, value, lowest in (('theta0', theta0, 3), ('theta', theta, 1)):
        if check_int(name, value, lowest) % 2 == 0:
            raise ValueError(f'{name} must be odd, got {value}')
    return int(theta0), int(theta)


class _Sums(torch.autograd.Function):
    """Numerator and denominator of P, then of R, for each image and class: (B, C, 4).

    All 0 for classes absent from the label of an image.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, void: Tensor, theta0: int, theta: int) -> Tensor:
        ctx.save_for_backward(logits, ids, void)
        ctx.thetas = theta0, theta
        sums = logits.new_zeros(*logits.shape[:2], 4, dtype=compute_dtype(logits))
        for image, into in enumerate(sums):
            probability = probability_of_image(logits[image], ~void[image])
            for channel, true in _one_hots(ids[image], void[image], len(probability)):
                into[channel] = _sums(probability[channel], true.to(into.dtype), void[image], theta0, theta)
        return sums

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        refuse_second_derivative('boundary_f1_loss')
        logits, ids, void = ctx.saved_tensors
        grad_logits = torch.zeros_like(logits, memory_format=torch.contiguous_format)
        for image, into in enumerate(grad_logits):
            probability = probability_of_image(logits[image], ~void[image])
            grad = into if into.dtype == probability.dtype else torch.zeros_like(probability)
            for channel, true in _one_hots(ids[image], void[image], len(probability)):
                predicted = probability[channel].requires_grad_()
                with torch.enable_grad():
                    sums = _sums(predicted, true.to(predicted.dtype), void[image], *ctx.thetas)
                (grad[channel],) = torch.autograd.grad(sums, predicted, grad_output[image, channel])
            into.copy_(probability_backward_(grad, probability))
        return grad_logits, None, None, None, None


def _one_hots(ids: Tensor, void: Tensor, num_classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the classes of a label (H, W), a few at a time: their channels (n,) and masks (n, H, W) bool."""
    first = 1 if num_classes == 1 else 0  # a single channel is class 1
    count = ids[~void].bincount(minlength=num_classes + first)
    class_index = count[first:].nonzero()[:, 0] + first
    for chunk in chunk_slices(len(class_index), ids.numel(), ids.device):
        yield class_index[chunk] - first, (ids == class_index[chunk, None, None]) & ~void


def _sums(predicted: Tensor, true: Tensor, void: Tensor, theta0: int, theta: int) -> Tensor:
    """The sums of some classes of one image: (n, 4) from (n, H, W) each."""
    predicted, true = _boundary(predicted, void, theta0), _boundary(true, void, theta0)
    terms = (predicted * _extended(true, theta), predicted, true * _extended(predicted, theta), true)
    return torch.stack([term.sum((1, 2)) for term in terms], 1)


def _boundary(values: Tensor, void: Tensor, theta0: int) -> Tensor:
    """pool(1 - y, theta0) - (1 - y), 0 at void pixels. -y replaces 1 - y, as the constant cancels."""
    around = F.pad(values.neg().masked_fill(void, -torch.inf), [theta0 // 2] * 4, value=-torch.inf)
    return (values + _WindowMax.apply(around, theta0)).masked_fill(void, 0)


def _extended(boundary: Tensor, theta: int) -> Tensor:
    return _WindowMax.apply(F.pad(boundary, [theta // 2] * 4), theta)


class _WindowMax(torch.autograd.Function):
    """max_pool2d with stride 1 and no padding on (n, H, W), as running maxima, which are faster on the CPU.

    If several pixels share the maximum of a window, the gradient goes to one of them, deterministically.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, ksize: int) -> Tensor:
        ctx.steps = []
        for dim in (1, 2):
            for step in running_steps(ksize):
                first, second = _shifted(values, dim, step)
                ctx.steps.append((dim, step, values))
                values = torch.maximum(first, second)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        for dim, step, values in reversed(ctx.steps):
            first, second = _shifted(values, dim, step)
            # Comparing into floating point is faster than a boolean mask on the CPU.
            grad_second = torch.gt(second, first, out=torch.empty_like(grad)).mul_(grad)
            into = torch.zeros_like(values)
            into_first, into_second = _shifted(into, dim, step)
            into_second.copy_(grad_second)
            into_first.add_(grad - grad_second)
            grad = into
        return grad, None


def _shifted(values: Tensor, dim: int, step: int) -> tuple[Tensor, Tensor]:
    """Views of ``values`` without the last and without the first ``step`` slices."""
    length = values.shape[dim] - step
    return values.narrow(dim, 0, length), values.narrow(dim, step, length)
