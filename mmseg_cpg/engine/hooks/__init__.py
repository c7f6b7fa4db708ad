from .boundary_target_hook import BoundaryTargetHook
from .reproducible_resume_hook import ReproducibleResumeHook

__all__ = ['BoundaryTargetHook', 'ReproducibleResumeHook']
