from .backbones import GraDNet
from .edge_network import EdgeNetwork
from .losses import (
    ActiveBoundaryLoss,
    BoundaryCrossEntropyLoss,
    BoundaryF1Loss,
    CPGLoss,
    LocallyAdaptiveLoss,
    RMILoss,
    SEMEDALoss,
    SobelLoss,
)

__all__ = [
    'ActiveBoundaryLoss',
    'BoundaryCrossEntropyLoss',
    'BoundaryF1Loss',
    'CPGLoss',
    'EdgeNetwork',
    'GraDNet',
    'LocallyAdaptiveLoss',
    'RMILoss',
    'SEMEDALoss',
    'SobelLoss',
]
