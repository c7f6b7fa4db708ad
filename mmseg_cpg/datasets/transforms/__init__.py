from .blank_image_from_label import BlankImageFromLabel
from .boundary_mask_from_label import BoundaryMaskFromLabel

__all__ = ['BlankImageFromLabel', 'BoundaryMaskFromLabel']
