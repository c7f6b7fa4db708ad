"""Boundary quality of label maps as pure functions of NumPy arrays, independent of MMSegmentation."""

from .boundary_iou import width_in_px
from .quality import BoundarySettings, boundary_scores, count_boundaries, ids_in_labels
from .trimap import trimap_band

__all__ = [
    'BoundarySettings',
    'boundary_scores',
    'count_boundaries',
    'ids_in_labels',
    'trimap_band',
    'width_in_px',
]
