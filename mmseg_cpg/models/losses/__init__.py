from .boundary_cross_entropy_loss import BoundaryCrossEntropyLoss
from .boundary_f1_loss import BoundaryF1Loss
from .cpg_loss import CPGLoss
from .locally_adaptive_loss import LocallyAdaptiveLoss
from .rmi_loss import RMILoss
from .sobel_loss import SobelLoss

__all__ = ['BoundaryCrossEntropyLoss', 'BoundaryF1Loss', 'CPGLoss', 'LocallyAdaptiveLoss', 'RMILoss', 'SobelLoss']
