"""Pure torch operations, usable from any training code: nothing here needs MMSegmentation."""

from .boundary import BoundaryTargets, boundary_targets, stack_targets
from .cpg_loss import cpg_loss
from .gradient_layer import gradient_features, gradient_layer
from .kernels import sobel_numerators

__all__ = [
    'BoundaryTargets',
    'boundary_targets',
    'cpg_loss',
    'gradient_features',
    'gradient_layer',
    'sobel_numerators',
    'stack_targets',
]
