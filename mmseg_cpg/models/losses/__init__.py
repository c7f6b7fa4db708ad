from .cpg_loss import CPGLoss

__all__ = ['CPGLoss']
