from .boundary_mask_from_label import BoundaryMaskFromLabel

__all__ = ['BoundaryMaskFromLabel']
