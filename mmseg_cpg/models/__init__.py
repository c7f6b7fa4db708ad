from .losses import CPGLoss

__all__ = ['CPGLoss']
