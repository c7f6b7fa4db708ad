from .backbones import GraDNet
from .losses import BoundaryCrossEntropyLoss, BoundaryF1Loss, CPGLoss, LocallyAdaptiveLoss, RMILoss, SobelLoss

__all__ = [
    'BoundaryCrossEntropyLoss',
    'BoundaryF1Loss',
    'CPGLoss',
    'GraDNet',
    'LocallyAdaptiveLoss',
    'RMILoss',
    'SobelLoss',
]
