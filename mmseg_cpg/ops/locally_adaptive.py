"""The locally adaptive learning loss (Guo et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._common import reduce_error, refuse_transforms
from ._selective_pooling import VOID, pooled_cross_entropy
from ._validation import check_avg_factor, check_factor, check_int, check_number, check_pixels, check_reduction
from .cpg.sobel import check_ksize


def check_power(power: float) -> None:
    """Raise TypeError or ValueError unless ``power`` is a finite number >= 1."""
    check_number('power', power, 'a finite number >= 1', lambda number: 1 <= number < math.inf)


@torch.compiler.disable
def locally_adaptive_loss(
    logits: Tensor,
    label: Tensor,
    ksize: int = 5,
    *,
    stride: int = 1,
    power: float = 3.0,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    r"""Locally adaptive learning loss: cross-entropy of predictions pooled over neighbors of the same class.

    .. math::
        f(p) = \frac{1}{\xi(p)} \sum_q \mu(p, q)\, \omega(p, q)\, x(q), \quad
        L^S(p) = -\log \mathrm{softmax}(f(p))_{y(p)}, \quad
        L^{AD} = \Big( \frac{1}{M_p} \sum_p L^S(p)^k \Big)^{1/k}

    (Eq. 2, 4, 5 of Guo et al., arXiv 1802.08290). x(q) is the standard score of q's logits over the classes, (z - mean)
    / standard deviation (section 3.1). q runs over the pixels in the window around p, p included; :math:`\mu` is 1 if q
    has p's class, else 0; :math:`\omega = 2^{1 - D}` with D the chessboard distance of p and q (2, 1, 1/2, 1/4, ...);
    :math:`\xi = \sum_q \mu` is a number of pixels, not the sum of the weights. p runs over every ``stride``-th pixel of
    every ``stride``-th row of one image; :math:`M_p` is the number of those that are not void.

    Choices where the paper is ambiguous or differs:

    - The standard deviation is that of the population, sqrt(variance + 1e-5). Without the 1e-5, constant logits, whose
      standard score is undefined, would have no finite gradient. Their scores are 0.
    - The loss is the mean of Eq. 5 over the images ("we take one image as an input batch") that have valid pixels.
    - Pixels outside the image and void pixels are excluded from all windows, from :math:`\xi` and from :math:`M_p`.
    - The gradient is the exact one of Eq. 2, 4 and 5, through the standard scores too. Eq. 7 and 8 as printed are not:
      Eq. 7 has the sum of all pixels' :math:`(L^S)^{k-1}` in place of the pixel's own, Eq. 8 lacks :math:`1/\xi`.

    Before you use it:

    - Standard scores discard the scale of the logits: the loss trains the ranking of the classes and their relative
      distances, but no confidence. (Logits more than 1e15 below the pixel's highest are clamped to 1e15 below it.)
    - They are at most sqrt(C - 1), so the loss of a perfect prediction is not 0: inside objects with 21 classes it is
      0.10, 0.52 and 1.10 for ksize 3, 5 and 7.
    - With two classes they are always -1 and 1, with one always 0. Neither has a gradient, so at least three classes
      are required.
    - Memory is about that of cross-entropy for any window. Time is several times that of cross-entropy and grows with
      the window's area.

    Args:
        logits: (B, C, H, W), floating point, C >= 3.
        label: (B, H, W), integer, class indices in [0, C) or ``ignore_index``.
        ksize: Odd window size in [3, 11]; the paper uses 3, 5 and 7, with the best results for 5.
        stride: Distance of the centers in rows and columns, from the top left pixel. The paper uses 1; a larger stride
            saves next to no time.
        power: Minkowski exponent k >= 1; larger values emphasize the largest :math:`L^S`. The paper uses 3.
        ignore_index: Id of void pixels in the label.
        weight: (B, H, W), >= 0, factor of each pixel's :math:`L^S` in Eq. 5; :math:`M_p` is counted unweighted.
        avg_factor: Divisor for ``'mean'`` in place of the number of images with valid pixels, number or scalar tensor
            >= 0. Clamped to float32's eps, as in MMSegmentation.
        reduction: ``'none'`` gives :math:`weight \cdot L^S` of each center, without Eq. 5; ``'sum'`` the sum of Eq. 5
            over the images, ``'mean'`` their mean.

    Returns:
        Scalar, or (B, ceil(H / stride), ceil(W / stride)) for ``reduction='none'``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value. On CUDA, the values of ``weight`` are not checked.

    Example:
        >>> logits = torch.randn(2, 21, 64, 64, requires_grad=True)
        >>> label = torch.randint(21, (2, 64, 64))
        >>> locally_adaptive_loss(logits, label, ksize=5).backward()
    """
    refuse_transforms('locally_adaptive_loss')
    ksize = check_ksize(ksize)
    check_int('stride', stride, 1)
    check_power(power)
    check_reduction(reduction)
    label, void = check_pixels(logits, label, ignore_index)
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    if weight is not None and weight.device.type == 'cpu' and (weight < 0).any():
        raise ValueError(f'weight must be >= 0, got {weight.min().item()}')
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    if logits.shape[1] < 3:
        raise ValueError(
            'logits must have at least 3 classes, since standard scores of fewer are constant and have no gradient, '
            f'got shape {tuple(logits.shape)}'
        )
    label = label.masked_fill(void, VOID)
    error = pooled_cross_entropy(logits, label, ksize)
    if weight is not None:
        error = error * weight
    error, label = error[:, ::stride, ::stride], label[:, ::stride, ::stride]
    if reduction == 'none':
        return error
    num_valid = (label != VOID).sum((1, 2))
    error = _minkowski_mean(error, num_valid.clamp(min=1), power)
    return reduce_error(error, num_valid.count_nonzero(), weight=None, avg_factor=avg_factor, reduction=reduction)


def _minkowski_mean(error: Tensor, count: Tensor, power: float) -> Tensor:
    """(sum(error^power) / count)^(1 / power) of each image (Eq. 5). Its gradient at error = 0 is 0."""
    # Normalized by the largest error, the powers cannot overflow, and that of the largest is 1.
    largest = error.detach().amax((1, 2), keepdim=True).clamp(min=torch.finfo(error.dtype).tiny)
    norm = torch.linalg.vector_norm(error / largest, power, (1, 2))
    return norm * largest.flatten() / count.to(error.dtype) ** (1 / power)
