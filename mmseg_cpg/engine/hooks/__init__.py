from .boundary_target_hook import BoundaryTargetHook
from .check_batch_size_hook import CheckBatchSizeHook

__all__ = ['BoundaryTargetHook', 'CheckBatchSizeHook']
