from .transforms import BoundaryMaskFromLabel

__all__ = ['BoundaryMaskFromLabel']
