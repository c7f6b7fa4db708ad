from .hooks import BoundaryTargetHook, CheckBatchSizeHook

__all__ = ['BoundaryTargetHook', 'CheckBatchSizeHook']
