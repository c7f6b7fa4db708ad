from .gradnet import GraDNet

__all__ = ['GraDNet']
