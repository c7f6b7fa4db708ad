from .backbones import AutocastBackbone, EfficientNetLite0, GraDNet
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
    'AutocastBackbone',
    'BoundaryCrossEntropyLoss',
    'BoundaryF1Loss',
    'CPGLoss',
    'EdgeNetwork',
    'EfficientNetLite0',
    'GraDNet',
    'LocallyAdaptiveLoss',
    'RMILoss',
    'SEMEDALoss',
    'SobelLoss',
]
