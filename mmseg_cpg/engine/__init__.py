from .hooks import BoundaryTargetHook, ReproducibleResumeHook

__all__ = ['BoundaryTargetHook', 'ReproducibleResumeHook']
