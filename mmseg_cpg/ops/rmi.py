"""The region mutual information loss: how well regions of the prediction tell those of the label.

Legend: P probabilities, Y one-hot label, both downsampled; R radius, d = R * R; a point is an R x R square of a map;
K the scatter matrix of P's and Y's points together; xi the ridge.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ._common import chunk_slices, compute_dtype, is_transformed, reduce_error, to_float64
from ._validation import check_avg_factor, check_factor, check_int, check_pixels, check_reduction


class RMIPreset(NamedTuple):
    """What the paper and its official code do differently.

    Attributes:
        pool: How P and Y are downsampled, 'max' or 'avg' pooling.
        pool_size: Side of the pooling windows, and their distance.
        padded: Whether half a window is added around the image.
        ridge: xi, what is added to the diagonal of the covariance matrices.
        ridge_per_point: Whether xi belongs to the covariance matrix, a mean over the points, and not to their sum.
    """

    pool: str
    pool_size: int
    padded: bool
    ridge: float
    ridge_per_point: bool

    @property
    def padding(self) -> int:
        return self.pool_size // 2 if self.padded else 0

    def pooled_size(self, pixels: int) -> int:
        return (pixels + 2 * self.padding - self.pool_size) // self.pool_size + 1


PRESETS = {
    'official': RMIPreset(pool='max', pool_size=3, padded=True, ridge=5e-4, ridge_per_point=False),
    'paper': RMIPreset(pool='avg', pool_size=4, padded=False, ridge=1e-6, ridge_per_point=True),
}


@torch.compiler.disable
def rmi_loss(
    logits: Tensor,
    label: Tensor,
    preset: str = 'official',
    *,
    radius: int = 3,
    pool_size: int | None = None,
    ignore_index: int = 255,
    class_weight: list[float] | Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    r"""Region mutual information loss: maximize what squares of R x R pixels of the prediction tell about the label's.

    .. math::
        L = \frac{1}{B} \sum_{b,c} \frac{1}{2 d} \log \det \left( I + M_{b,c} / \xi \right), \quad
        M = \Sigma_Y - \Sigma_{YP} (\Sigma_P + \xi I)^{-1} \Sigma_{YP}^T

    (Zhao, Wang, Yang & Cai, "Region Mutual Information Loss for Semantic Segmentation", NeurIPS 2019, arXiv 1910.12037:
    the second term of the overall objective, Eq. 16, with the lower bound of the mutual information normalized by d.)
    P = sigmoid(logits), class by class, and Y, the one-hot label, are downsampled. Each R x R square of them is a point
    with d = R * R coordinates; the covariance matrices are those of the points of image b and class c.

    The paper's text and its official code (github.com/ZJULearning/RMI) differ; ``preset`` chooses:

    ==============  ===================================================  ==========================================
    ..              ``'official'``                                       ``'paper'``
    ==============  ===================================================  ==========================================
    downsampling    max pooling, 3 x 3, stride 3                         average pooling, 4 x 4, stride 4
    border          half a window of padding, which is never the         no padding, a remainder is dropped
                    maximum
    :math:`\Sigma`  sums over the points                                 means over the points
    :math:`\xi`     5e-4                                                 1e-6
    ==============  ===================================================  ==========================================

    ``'official'`` has the defaults of the code's class ``RMILoss``. (Its command line pools by averages of 2 x 2 unless
    told otherwise; the script that trains the paper's networks asks for 4 x 4.) The border of ``'paper'``, and what
    void pixels do in it, are our choice. Its xi and its means are as others quote the paper, whose section on them was
    not at hand.

    Different from the official code, whose gradient this is up to rounding:

    - Each class adds a constant of :math:`-\log(\xi) / 2` to the value (3.8 with ``'official'``), so that it is never
      negative, and 0 where there is nothing to learn: for a class that an image does not have, and for void images.
      A perfect prediction costs up to log(2) / 2 for each class of the image.
    - M is not computed: :math:`I + M / \xi` is a Schur complement of :math:`I + K / \xi`, of which one Cholesky
      decomposition is made. It cannot fail, see :func:`_log_det`; the official code stops at singular matrices.
    - 1e-6 is not added to P, which the covariance cancels, nor 1e-8 to the logarithm's argument, which is 0.02 or more.
    - The cross-entropy is not part of it. The official code returns 0.5 * BCE + 0.5 * RMI; its BCE is a sum over
      classes, so C times that of MMSegmentation's ``CrossEntropyLoss(use_sigmoid=True)``.

    Use it beside a pixel-wise loss: pooling and xi aside it knows neither sign nor scale of P, and its gradient is 0
    where P is constant. As in the official code P and Y are 0 at void pixels; their logits change nothing and get
    gradient 0. Images without an R x R square have loss 0, of which a warning tells. NaN logits that are not void make
    the loss NaN.

    P is computed in float32 (float64 for float64 logits), also under autocast, the matrices in float64: on the CPU
    where the logits' device has none (MPS). A few maps are worked on at a time, and again in backward, so that memory
    beside the logits is that of their gradient, twice.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation:
            the points are those of class 1. Never modified.
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        preset: ``'official'`` or ``'paper'``.
        radius: R >= 1, side of the squares in pixels of the downsampled maps; 3 in paper and official code.
        pool_size: Side and stride of the pooling windows in place of the preset's; 1 leaves the maps as they are.
        ignore_index: Id of void pixels in the label.
        class_weight: (C,), factor of each class.
        avg_factor: Divisor for ``'mean'`` in place of B, number or scalar tensor >= 0. As in MMSegmentation
            the smallest is float32's eps.
        reduction: ``'mean'`` over the images or their ``'sum'``.

    Returns:
        Scalar, float32, or float64 for float64 logits.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> rmi_loss(logits, label).backward()
    """
    settings = check_preset(preset, radius, pool_size)
    check_region_reduction(reduction)
    ids, void = check_pixels(logits, label, ignore_index)
    class_weight = check_factor('class_weight', class_weight, (logits.shape[1],), logits)
    avg_factor = check_avg_factor(avg_factor, reduction, logits)

    with torch.autocast(logits.device.type, enabled=False):
        error = _information_lost(logits, ids.masked_fill(void, -1), settings, radius)
        error = error.to(compute_dtype(logits)).to(logits.device)
    if class_weight is not None:
        error = error * class_weight
    count = torch.full((), len(logits), device=logits.device)
    return reduce_error(error.sum(1), count, weight=None, avg_factor=avg_factor, reduction=reduction)


def check_preset(preset: str, radius: int, pool_size: int | None) -> RMIPreset:
    """Return the settings of a preset with ``pool_size`` unless it is None, or raise TypeError or ValueError."""
    if preset not in tuple(PRESETS):
        raise ValueError(f'preset must be one of {tuple(PRESETS)}, got {preset!r}')
    settings = PRESETS[preset]
    if pool_size is not None:
        settings = settings._replace(pool_size=pool_size)
    check_int('radius', radius, 1)
    check_int('pool_size', settings.pool_size, 1)
    return settings


def check_region_reduction(reduction: str) -> None:
    """Raise ValueError unless ``reduction`` is 'mean' or 'sum'."""
    check_reduction(reduction)
    if reduction == 'none':
        raise ValueError("reduction must be 'mean' or 'sum', got 'none': no term of the RMI loss belongs to one pixel")


def _information_lost(logits: Tensor, ids: Tensor, settings: RMIPreset, radius: int) -> Tensor:
    """The loss of each image and class, (B, C); ``ids`` are -1 at void pixels."""
    batch, num_classes, *size = logits.shape
    height, width = (settings.pooled_size(pixels) - radius + 1 for pixels in size)
    if min(height, width) < 1:
        warnings.warn(
            f'The RMI loss of images of {size[0]} x {size[1]} pixels is 0: pooled by {settings.pool_size} '
            f'they have no square of {radius} x {radius} pixels.',
            stacklevel=3,
        )
        return logits.flatten(2)[..., :0].sum(2)
    index = torch.arange(batch * num_classes, device=logits.device)
    image = index.div(num_classes, rounding_mode='floor')
    category = index - image * num_classes if num_classes > 1 else torch.ones_like(index)
    ridge = settings.ridge * (height * width if settings.ridge_per_point else 1)

    chunks = chunk_slices(batch * num_classes, 2 * radius**2 * height * width, logits.device)
    maps = logits.flatten(0, 1).split([chunk.stop - chunk.start for chunk in chunks])
    scatter_matrices = _scatter_matrices
    if not is_transformed():  # torch.func has no hooks for saved tensors, which a checkpoint needs
        scatter_matrices = partial(checkpoint, _scatter_matrices, use_reentrant=False, preserve_rng_state=False)
    scatter = [
        scatter_matrices(chunk_of_maps, ids, image[chunk], category[chunk], settings, radius)
        for chunk_of_maps, chunk in zip(maps, chunks, strict=True)
    ]
    return _log_det(torch.cat(scatter), ridge).view(batch, num_classes)


def _scatter_matrices(
    logits: Tensor, ids: Tensor, image: Tensor, category: Tensor, settings: RMIPreset, radius: int
) -> Tensor:
    """K of some maps: (maps, H, W) logits of the given images and classes, to (maps, 2 d, 2 d) float64."""
    ids = ids[image]
    probability = logits.to(compute_dtype(logits)).masked_fill(ids < 0, -torch.inf).sigmoid()
    one_hot = (ids == category[:, None, None]).to(probability.dtype)
    pool = F.max_pool2d if settings.pool == 'max' else F.avg_pool2d
    maps = [pool(each[:, None], settings.pool_size, padding=settings.padding) for each in (probability, one_hot)]
    squares = to_float64(torch.cat(maps, 1)).unfold(2, radius, 1).unfold(3, radius, 1)
    # (maps, rows, 2 d, columns): summed row by row, which rounds less than one long sum.
    points = squares.permute(0, 2, 1, 4, 5, 3).flatten(2, 4)
    points = points - points.mean((1, 3), keepdim=True)
    return (points @ points.mT).sum(1)


def _log_det(scatter: Tensor, ridge: float) -> Tensor:
    r"""log det(I + M / xi) / (2 d) of each (2 d, 2 d) matrix K, with P's coordinates before Y's.

    With LL^T = I + K / xi, the lower right block of L is the Cholesky factor of the Schur complement of P's block,
    which is I + M / xi. Only the lower triangle of K is read, so that K is as good as symmetric.

    The decomposition does not fail: K = X X^T of the centered points X is positive semidefinite, so the smallest
    eigenvalue of I + K / xi is 1 but for rounding. An image of h x w points is summed over columns, then rows; entries
    of X are in [-1, 1] and their squares sum up to h w / 4 at most. So K is off by less than E = 2 d (h + w) u h w / 4
    in the 2-norm, u = 1.1e-16, and the decomposition adds less than (2 d)^2 u (xi + h w / 4) (Higham, "Accuracy and
    Stability of Numerical Algorithms", Theorem 10.3 and 10.7). At h = w = 3000, an image of 9000 x 9000 pixels, the two
    are 3e-5 and 8e-8, below a tenth of xi = 5e-4; with the paper's xi h w, 9, they are smaller still.
    """
    half = scatter.shape[-1] // 2
    eye = torch.eye(2 * half, dtype=scatter.dtype, device=scatter.device)
    factor, info = torch.linalg.cholesky_ex(eye + scatter / ridge)
    # NaN stops the decomposition, which leaves numbers behind that are none.
    stopped = torch.where(info == 0, 1.0, torch.nan)
    return factor.diagonal(dim1=-2, dim2=-1)[:, half:].log().mean(-1) * stopped
