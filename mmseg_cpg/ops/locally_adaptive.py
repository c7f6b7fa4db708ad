from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from ._common import reduce_error, refuse_transforms
from ._selective_pooling import VOID, pooled_cross_entropy
from ._validation import check_avg_factor, check_factor, check_int, check_pixels, check_reduction
from .cpg.sobel import check_ksize


def check_power(power: float) -> None:
    """Raise ValueError unless ``power`` is a finite number >= 1."""
    if isinstance(power, bool) or not isinstance(power, Real) or not 1 <= power < math.inf:
        raise ValueError(f'power must be a finite number >= 1, got {power!r}')


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
    r"""Locally adaptive learning loss: cross-entropy of predictions that are pooled over neighbors of the same class.

    .. math::
        f(p) = \frac{1}{\xi(p)} \sum_q \mu(p, q)\, \omega(p, q)\, x(q), \quad
        L^S(p) = -\log \mathrm{softmax}(f(p))_{y(p)}, \quad
        L^{AD} = \Big( \frac{1}{M_p} \sum_p L^S(p)^k \Big)^{1/k}

    (Eq. 2, 4, 5 of Guo et al., arXiv 1802.08290). x(q) is the standard score of q's logits over the classes, (z - mean)
    / standard deviation (section 3.1). q runs over the pixels of the image in the window around p, p included;
    :math:`\mu` is 1 where q has p's class, else 0; :math:`\omega = 2^{1 - D}` with D their chessboard distance (2, 1,
    1/2, 1/4, ...); :math:`\xi = \sum_q \mu`, a number of pixels and not the weights' sum. p runs over every
    ``stride``-th pixel of every ``stride``-th row of one image; :math:`M_p` is how many of these are not void.

    Where the paper leaves a choice, or prints something else:

    - The standard deviation is the population's, sqrt(variance + 1e-5): without the 1e-5 constant logits, whose
      standard score is not defined, would have no finite gradient. Their scores are 0.
    - The loss is the mean of Eq. 5 over the images ("we take one image as an input batch"), without those that have no
      valid pixel.
    - Pixels outside the image do not exist, void pixels are neither center nor neighbor: they count in none of the
      sums, :math:`\xi` and :math:`M_p`, and logits of void pixels have no influence, whatever they are.
    - The gradient is the true one of Eq. 2, 4 and 5, through the standard scores too. Eq. 7 and 8 as printed are not:
      Eq. 7 has the sum of all pixels' :math:`(L^S)^{k-1}` in place of the pixel's own, Eq. 8 lacks :math:`1/\xi`.

    What to know before using it:

    - Standard scores forget the size of the logits: the loss trains which class is ahead and by how much relative to
      the others, but no confidence. (Logits more than 1e15 below the pixel's highest count as 1e15 below it.)
    - They are at most sqrt(C - 1), so that, :math:`\omega` and :math:`\xi` being what they are, a perfect prediction
      keeps a loss: inside objects at 21 classes 0.10, 0.52 and 1.10 for ksize 3, 5 and 7.
    - Those of two classes are -1 and 1 whatever the logits, and those of one are 0. Neither has a gradient, so fewer
      than three classes are refused.
    - Memory is about cross-entropy's for any window. Time is several times cross-entropy's and grows with the
      window's area.

    A batch without valid pixels has loss 0 and gradient 0. The gradient can be taken once.

    Args:
        logits: (B, C, H, W) with C >= 3, float16, bfloat16, float32 or float64, any memory format.
        label: (B, H, W), integer, class indices in [0, C) or ``ignore_index``.
        ksize: Odd window size in [3, 11]; the paper uses 3, 5 and 7, with the best results for 5.
        stride: Distance of the centers in rows and columns; the first is the top left pixel. The paper uses 1, and
            more saves next to no time.
        power: Minkowski exponent k >= 1; the higher, the more the largest :math:`L^S` count. The paper uses 3.
        ignore_index: Id of void pixels in the label.
        weight: (B, H, W), >= 0, factor of each pixel's :math:`L^S` in Eq. 5; :math:`M_p` is counted unweighted.
        avg_factor: Divisor for ``'mean'`` in place of the number of images with valid pixels, number or scalar tensor
            >= 0. As in MMSegmentation the smallest is float32's eps.
        reduction: ``'none'`` gives :math:`weight \cdot L^S` of each center, without Eq. 5; ``'sum'`` the sum of Eq. 5
            over the images, ``'mean'`` their mean.

    Returns:
        Scalar, or (B, ceil(H / stride), ceil(W / stride)) for ``reduction='none'``; float32, or float64 for float64
        logits.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value, or the arguments do not fit each other. On CUDA, label
            values are checked by an asynchronous device assertion, and those of ``weight`` are not.

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
            'logits must have 3 classes or more, since the standard scores of fewer do not depend on the logits '
            f'and have no gradient, got shape {tuple(logits.shape)}'
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
    """(sum(error^power) / count)^(1 / power) of each image (Eq. 5), whose gradient at error = 0 is 0."""
    # Powers of numbers up to 1 do not overflow, and do not vanish all.
    largest = error.detach().amax((1, 2), keepdim=True).clamp(min=torch.finfo(error.dtype).tiny)
    norm = torch.linalg.vector_norm(error / largest, power, (1, 2))
    return norm * largest.flatten() / count.to(error.dtype) ** (1 / power)
