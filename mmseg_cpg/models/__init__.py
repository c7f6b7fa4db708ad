from .backbones import AutocastBackbone, EfficientNetLite0, GraDNet
from .edge_network import EdgeNetwork
from .losses import (
    ActiveBoundaryLoss,
    BoundaryCrossEntropyLoss,
    BoundaryF1Loss,
    CPGLoss,
    CrossEntropyCPGLoss,
    LocallyAdaptiveLoss,
    RMILoss,
    SEMEDALoss,
    SobelLoss,
)

__all__ = [
    'ActiveBoundaryLoss',
    'AutocastBackbone',
    'BoundaryCrossEntropyLoss',
    'BoundaryF1Loss',
    'CPGLoss',
    'CrossEntropyCPGLoss',
    'EdgeNetwork',
    'EfficientNetLite0',
    'GraDNet',
    'LocallyAdaptiveLoss',
    'RMILoss',
    'SEMEDALoss',
    'SobelLoss',
]
