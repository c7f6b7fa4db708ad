"""CPG loss for MMSegmentation: importing this package registers its modules."""

from .models import CPGLoss
from .version import __version__

__all__ = ['CPGLoss', '__version__']
