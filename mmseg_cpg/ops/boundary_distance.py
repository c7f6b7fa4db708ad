"""The distance map used by the Active Boundary Loss: the distance of every pixel to the boundary of the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ._validation import check_ignore_index, check_label, check_same_origin, void_mask


@dataclass(frozen=True, eq=False)
class BoundaryDistance:
    """A :func:`boundary_distance` with the arguments it was computed with.

    Attributes:
        distance: float32, of the label's shape, (H, W) or (B, H, W).
        ignore_index: Id of void pixels.
    """

    distance: Tensor
    ignore_index: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label."""
        return tuple(self.distance.shape)

    @property
    def made_with(self) -> tuple[tuple[int, ...], int]:
        """(shape, ignore_index), which must match those of the loss."""
        return self.shape, self.ignore_index


def stack_distances(distances: Sequence[BoundaryDistance]) -> BoundaryDistance:
    """The distances of a batch from those of its images.

    Args:
        distances: Of (H, W) labels, at least one, all computed with the same ``ignore_index`` and on one device.

    Raises:
        ValueError: No distances, distances of batches, or distances of different shapes or ``ignore_index``.
    """
    check_same_origin('distances', 'shape, ignore_index', [each.made_with for each in distances])
    return replace(distances[0], distance=torch.stack([each.distance for each in distances]))


@torch.compiler.disable
def boundary_distance(label: np.ndarray | Tensor, *, ignore_index: int = 255) -> Tensor:
    """Euclidean distance from the center of every pixel to that of the nearest boundary pixel of its image.

    A boundary pixel is one whose right or lower neighbor has another class. Void is not a class, so its border is not a
    boundary. Distances are measured across void, and void pixels have distances too.

    Computed by OpenCV on the CPU for labels on any device: exact up to 800 pixels, accurate to 1e-3 pixels beyond.

    Args:
        label: (H, W) or (B, H, W), any integer dtype, class ids or ``ignore_index``.
        ignore_index: Id of void pixels.

    Returns:
        float32, of the label's shape and on its device, in pixels: 0 on the boundary, infinite in an image that has
        none.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: The label has another number of dimensions.

    Example:
        >>> boundary_distance(torch.tensor([[0, 0, 0, 1, 1]]))
        tensor([[2., 1., 0., 1., 2.]])
    """
    check_ignore_index(ignore_index)
    label = check_label(label)
    if label.dim() not in (2, 3):
        raise ValueError(f'label must have shape (H, W) or (B, H, W), got {tuple(label.shape)}')
    boundary = _label_boundary(label, ignore_index).cpu().numpy()
    distance = np.full(boundary.shape, np.inf, np.float32)
    for index in np.ndindex(boundary.shape[:-2]):
        if boundary[index].any():
            distance[index] = _distance_transform(boundary[index])
    return torch.from_numpy(distance).to(label.device)


def official_distance(label: Tensor, void: Tensor) -> Tensor:
    """Distance as in the published code of the Active Boundary Loss, see :func:`.active_boundary_loss`.

    Args:
        label: (B, H, W), any signed integer dtype or uint8.
        void: (B, H, W) bool, pixels that are boundary as well.

    Returns:
        (B, H, W) float32, whole numbers, infinite in an image without boundary.
    """
    boundary = void.clone()
    boundary[..., :-1] |= label[..., :-1] != label[..., 1:]
    boundary[..., :-1, :] |= label[..., :-1, :] != label[..., 1:, :]
    distance = np.full(boundary.shape, np.inf, np.float32)
    for index, mask in enumerate(boundary.cpu().numpy()):
        if mask.any():
            distance[index] = np.maximum(np.floor(_distance_transform(mask)) - 1, 0)
    return torch.from_numpy(distance).to(label.device)


def _label_boundary(label: Tensor, ignore_index: int) -> Tensor:
    """Boolean mask of the boundary pixels."""
    void = void_mask(label, ignore_index)
    boundary = torch.zeros_like(void)
    boundary[..., :-1] |= label[..., :-1] != label[..., 1:]
    boundary[..., :-1] &= ~void[..., 1:]
    lower = label[..., :-1, :] != label[..., 1:, :]
    boundary[..., :-1, :] |= lower & ~void[..., 1:, :]
    return boundary & ~void


def _distance_transform(boundary: np.ndarray) -> np.ndarray:
    import cv2  # here, so that all other operations need only torch and numpy

    distance = cv2.distanceTransform((~boundary).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # OpenCV's square roots have relative errors of about 1e-7, so equal distances differ; their squares are integers.
    return np.sqrt(np.rint(np.square(distance, dtype=np.float64)).astype(np.float32))
