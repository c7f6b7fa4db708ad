from .active_boundary_loss import ActiveBoundaryLoss
from .boundary_cross_entropy_loss import BoundaryCrossEntropyLoss
from .boundary_f1_loss import BoundaryF1Loss
from .cpg_loss import CPGLoss
from .cross_entropy_cpg_loss import CrossEntropyCPGLoss
from .locally_adaptive_loss import LocallyAdaptiveLoss
from .rmi_loss import RMILoss
from .semeda_loss import SEMEDALoss
from .sobel_loss import SobelLoss

__all__ = [
    'ActiveBoundaryLoss',
    'BoundaryCrossEntropyLoss',
    'BoundaryF1Loss',
    'CPGLoss',
    'CrossEntropyCPGLoss',
    'LocallyAdaptiveLoss',
    'RMILoss',
    'SEMEDALoss',
    'SobelLoss',
]
