"""The RMI loss: mutual information between regions of the prediction and of the label.

P: probabilities, Y: one-hot label, both downsampled; R: radius; d = R * R; point: an R x R square of a map; K: scatter
matrix of the joint points of P and Y; xi: ridge.
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
    """Settings that differ between the paper and its official code.

    Attributes:
        pool: Pooling that downsamples P and Y, 'max' or 'avg'.
        pool_size: Size and stride of the pooling windows in pixels.
        padded: Whether the image is padded by half a window.
        ridge: xi, added to the diagonal of the covariance matrices.
        ridge_per_point: Whether covariance matrices are means over the points (True) or sums (False).
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
    r"""Region mutual information loss: maximize the mutual information of R x R regions of prediction and label.

    .. math::
        L = \frac{1}{B} \sum_{b,c} \frac{1}{2 d} \log \det \left( I + M_{b,c} / \xi \right), \quad
        M = \Sigma_Y - \Sigma_{YP} (\Sigma_P + \xi I)^{-1} \Sigma_{YP}^T

    (Zhao, Wang, Yang & Cai, "Region Mutual Information Loss for Semantic Segmentation", NeurIPS 2019, arXiv 1910.12037:
    the second term of the overall objective, Eq. 16, with the lower bound of the mutual information normalized by d.)
    P = sigmoid(logits), per class, and the one-hot label Y are downsampled. Each R x R square is a point with d = R * R
    coordinates; the covariance matrices are those of the points of image b and class c.

    The paper and its official code (github.com/ZJULearning/RMI) differ; ``preset`` selects:

    ==============  ===================================================  ==========================================
    ..              ``'official'``                                       ``'paper'``
    ==============  ===================================================  ==========================================
    downsampling    max pooling, 3 x 3, stride 3                         average pooling, 4 x 4, stride 4
    border          half a window of padding, never the maximum          no padding, a remainder is dropped
    :math:`\Sigma`  sums over the points                                 means over the points
    :math:`\xi`     5e-4                                                 1e-6
    ==============  ===================================================  ==========================================

    ``'official'`` uses the defaults of the code's class ``RMILoss``. (Its command line defaults to 2 x 2 average
    pooling; the script that trains the paper's networks uses 4 x 4.) The border of ``'paper'`` and its handling of
    void pixels are our choice. Its xi and its means follow citations of the paper; the paper's own section on them was
    not available.

    Differences from the official code; the gradient is the same up to rounding:

    - Each class adds a constant of :math:`-\log(\xi) / 2` to the value (3.8 with ``'official'``), so the loss is never
      negative, and 0 for classes absent from an image and for void images. A perfect prediction costs up to log(2) / 2
      per class of the image.
    - M is not computed: :math:`I + M / \xi` is a Schur complement of :math:`I + K / \xi`, which one Cholesky
      decomposition factors. It cannot fail, see :func:`_log_det`; the official code fails on singular matrices.
    - 1e-6 is not added to P, since the covariance cancels it, nor 1e-8 to the logarithm's argument, which is at least
      0.02.
    - Cross-entropy is not included. The official code returns 0.5 * BCE + 0.5 * RMI; its BCE is a sum over classes,
      so C times that of MMSegmentation's ``CrossEntropyLoss(use_sigmoid=True)``.

    Combine it with a pixel-wise loss: apart from pooling and xi, it depends on neither the sign nor the scale of P, and
    its gradient is 0 where P is constant. As in the official code, P and Y are 0 at void pixels, whose logits do not
    affect the loss. An image without an R x R square has loss 0, with a warning.

    The matrices are float64, computed on the CPU if the logits' device does not support it (MPS). Maps are processed in
    chunks and recomputed in backward, so the extra memory is twice that of the logits' gradient.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation: the points are those of class 1.
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        preset: ``'official'`` or ``'paper'``.
        radius: R >= 1, side of the squares in pixels of the downsampled maps; 3 in the paper and the official code.
        pool_size: Overrides the preset's size and stride of the pooling windows; 1 disables pooling.
        ignore_index: Id of void pixels in the label.
        class_weight: (C,), factor of each class, may require a gradient.
        avg_factor: Divisor for ``'mean'`` in place of B, number or scalar tensor >= 0. Clamped to float32's
            eps, as in MMSegmentation.
        reduction: ``'mean'`` or ``'sum'`` over the images.

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
    """Return the settings of a preset, with ``pool_size`` if it is not None; raise TypeError or ValueError."""
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
        raise ValueError("reduction must be 'mean' or 'sum', got 'none': RMI is not a per-pixel loss")


def _information_lost(logits: Tensor, ids: Tensor, settings: RMIPreset, radius: int) -> Tensor:
    """The loss of each image and class, (B, C). ``ids`` is -1 at void pixels."""
    batch, num_classes, *size = logits.shape
    height, width = (settings.pooled_size(pixels) - radius + 1 for pixels in size)
    if min(height, width) < 1:
        warnings.warn(
            f'The RMI loss of images of {size[0]} x {size[1]} pixels is 0: after pooling by {settings.pool_size} '
            f'they contain no {radius} x {radius} square.',
            stacklevel=3,
        )
        return logits.flatten(2)[..., :0].sum(2)
    index = torch.arange(batch * num_classes, device=logits.device)
    image = index.div(num_classes, rounding_mode='floor')
    class_index = index - image * num_classes if num_classes > 1 else torch.ones_like(index)
    ridge = settings.ridge * (height * width if settings.ridge_per_point else 1)

    chunks = chunk_slices(batch * num_classes, 2 * radius**2 * height * width, logits.device)
    maps = logits.flatten(0, 1).split([chunk.stop - chunk.start for chunk in chunks])
    scatter_matrices = _scatter_matrices
    if not is_transformed():  # torch.func has no hooks for saved tensors, which a checkpoint needs
        scatter_matrices = partial(checkpoint, _scatter_matrices, use_reentrant=False, preserve_rng_state=False)
    scatter = [
        scatter_matrices(chunk_of_maps, ids, image[chunk], class_index[chunk], settings, radius)
        for chunk_of_maps, chunk in zip(maps, chunks, strict=True)
    ]
    return _log_det(torch.cat(scatter), ridge).view(batch, num_classes)


def _scatter_matrices(
    logits: Tensor, ids: Tensor, image: Tensor, class_index: Tensor, settings: RMIPreset, radius: int
) -> Tensor:
    """K, (n, 2 d, 2 d) float64, from the logits (n, H, W) of n pairs of image and class."""
    ids = ids[image]
    probability = logits.to(compute_dtype(logits)).masked_fill(ids < 0, -torch.inf).sigmoid()
    one_hot = (ids == class_index[:, None, None]).to(probability.dtype)
    pool = F.max_pool2d if settings.pool == 'max' else F.avg_pool2d
    maps = [pool(each[:, None], settings.pool_size, padding=settings.padding) for each in (probability, one_hot)]
    squares = to_float64(torch.cat(maps, 1)).unfold(2, radius, 1).unfold(3, radius, 1)
    # (n, rows, 2 d, columns), summed row by row, which rounds less than one long sum.
    points = squares.permute(0, 2, 1, 4, 5, 3).flatten(2, 4)
    points = points - points.mean((1, 3), keepdim=True)
    return (points @ points.mT).sum(1)


def _log_det(scatter: Tensor, ridge: float) -> Tensor:
    r"""log det(I + M / xi) / (2 d) of each (2 d, 2 d) matrix K, with P's coordinates before Y's.

    With LL^T = I + K / xi, the lower right block of L is the Cholesky factor of the Schur complement of P's block,
    which is I + M / xi. Only the lower triangle of K is read, so K need not be exactly symmetric.

    The decomposition cannot fail: K = X X^T of the centered points X is positive semidefinite, so the smallest
    eigenvalue of I + K / xi is at least 1 up to rounding. An image of h x w points is summed over columns, then rows;
    elements of X are in [-1, 1] and the sum of their squares is at most h w / 4. So the error of K is less than
    E = 2 d (h + w) u h w / 4 in the 2-norm, u = 1.1e-16, and the decomposition adds less than (2 d)^2 u (xi + h w / 4)
    (Higham, "Accuracy and Stability of Numerical Algorithms", Theorems 10.3 and 10.7). At h = w = 3000, an image of
    9000 x 9000 pixels, the two are 3e-5 and 8e-8, below a tenth of xi = 5e-4; relative to the paper's xi h w = 9 they
    are smaller still.
    """
    half = scatter.shape[-1] // 2
    eye = torch.eye(2 * half, dtype=scatter.dtype, device=scatter.device)
    factor, info = torch.linalg.cholesky_ex(eye + scatter / ridge)
    # For NaN input cholesky_ex returns an invalid factor and info > 0.
    propagated_nan = torch.where(info == 0, 1.0, torch.nan)
    return factor.diagonal(dim1=-2, dim2=-1)[:, half:].log().mean(-1) * propagated_nan
