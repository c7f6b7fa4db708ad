"""The CPG loss (Shan & Jia, arXiv 2404.06704)."""

from .loss import cpg_loss
from .sobel import sobel_numerators
from .targets import BoundaryTargets, boundary_targets, stack_targets

__all__ = ['BoundaryTargets', 'boundary_targets', 'cpg_loss', 'sobel_numerators', 'stack_targets']
