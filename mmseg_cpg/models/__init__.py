from .backbones import GraDNet
from .losses import BoundaryCrossEntropyLoss, BoundaryF1Loss, CPGLoss, SobelLoss

__all__ = ['BoundaryCrossEntropyLoss', 'BoundaryF1Loss', 'CPGLoss', 'GraDNet', 'SobelLoss']
