from .backbones import GraDNet
from .losses import CPGLoss

__all__ = ['CPGLoss', 'GraDNet']
