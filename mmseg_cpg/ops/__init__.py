"""Losses and boundary targets as functions, usable from any training code: nothing here needs MMSegmentation.

Imports torch and numpy only; :func:`boundary_distance` also needs OpenCV. What all losses have in common (dtypes,
memory formats, labels, void, NaN, averaging) is on the "Conventions" page of the documentation, docs/conventions.md;
docstrings state only what differs.
"""

from .active_boundary import active_boundary_loss
from .boundary_cross_entropy import boundary_cross_entropy_loss
from .boundary_distance import BoundaryDistance, boundary_distance, stack_distances
from .boundary_f1 import boundary_f1_loss
from .cpg import (
    BoundaryTargets,
    CrossEntropyCPG,
    boundary_targets,
    cpg_loss,
    cross_entropy_cpg_loss,
    sobel_numerators,
    stack_targets,
)
from .gradient_layer import gradient_features, gradient_layer
from .locally_adaptive import locally_adaptive_loss
from .rmi import rmi_loss
from .semeda import semeda_loss
from .sobel_loss import sobel_loss

__all__ = [
    'BoundaryDistance',
    'BoundaryTargets',
    'CrossEntropyCPG',
    'active_boundary_loss',
    'boundary_cross_entropy_loss',
    'boundary_distance',
    'boundary_f1_loss',
    'boundary_targets',
    'cpg_loss',
    'cross_entropy_cpg_loss',
    'gradient_features',
    'gradient_layer',
    'locally_adaptive_loss',
    'rmi_loss',
    'semeda_loss',
    'sobel_loss',
    'sobel_numerators',
    'stack_distances',
    'stack_targets',
]
