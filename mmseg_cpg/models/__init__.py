from .backbones import GraDNet
from .edge_network import EdgeNetwork
from .losses import (
    BoundaryCrossEntropyLoss,
    BoundaryF1Loss,
    CPGLoss,
    LocallyAdaptiveLoss,
    RMILoss,
    SEMEDALoss,
    SobelLoss,
)

__all__ = [
    'BoundaryCrossEntropyLoss',
    'BoundaryF1Loss',
    'CPGLoss',
    'GraDNet',
    'LocallyAdaptiveLoss',
    'RMILoss',
    'SobelLoss',
]

__all__ = ['CPGLoss', 'EdgeNetwork', 'SEMEDALoss']
