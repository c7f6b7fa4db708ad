from .blank_image_from_label import BlankImageFromLabel
from .boundary_distance_from_label import BoundaryDistanceFromLabel
from .boundary_mask_from_label import BoundaryMaskFromLabel

__all__ = ['BlankImageFromLabel', 'BoundaryDistanceFromLabel', 'BoundaryMaskFromLabel']
