from .backbones import GraDNet
from .losses import BoundaryCrossEntropyLoss, BoundaryF1Loss, CPGLoss, RMILoss, SobelLoss

__all__ = ['BoundaryCrossEntropyLoss', 'BoundaryF1Loss', 'CPGLoss', 'GraDNet', 'RMILoss', 'SobelLoss']
