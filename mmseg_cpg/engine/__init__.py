from .hooks import BoundaryTargetHook

__all__ = ['BoundaryTargetHook']
