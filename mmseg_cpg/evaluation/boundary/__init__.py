"""Boundary quality of label maps as pure functions of numpy arrays: nothing here needs MMSegmentation."""

from .quality import BoundarySettings, boundary_scores, count_boundaries, width_in_px
from .trimap import trimap_band

__all__ = ['BoundarySettings', 'boundary_scores', 'count_boundaries', 'trimap_band', 'width_in_px']
