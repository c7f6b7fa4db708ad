from .hooks import BoundaryTargetHook, CheckBatchSizeHook, ReproducibleResumeHook

__all__ = ['BoundaryTargetHook', 'CheckBatchSizeHook', 'ReproducibleResumeHook']
