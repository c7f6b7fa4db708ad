"""Pure torch operations, usable from any training code: nothing here needs MMSegmentation."""

from .boundary import BoundaryTargets, boundary_targets, stack_targets
from .cpg_loss import cpg_loss
from .kernels import sobel_numerators

__all__ = ['BoundaryTargets', 'boundary_targets', 'cpg_loss', 'sobel_numerators', 'stack_targets']
