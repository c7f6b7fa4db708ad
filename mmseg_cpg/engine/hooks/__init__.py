from .boundary_target_hook import BoundaryTargetHook
from .check_batch_size_hook import CheckBatchSizeHook
from .reproducible_resume_hook import ReproducibleResumeHook

__all__ = ['BoundaryTargetHook', 'CheckBatchSizeHook', 'ReproducibleResumeHook']
