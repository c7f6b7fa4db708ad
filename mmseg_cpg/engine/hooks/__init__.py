from .boundary_target_hook import BoundaryTargetHook

__all__ = ['BoundaryTargetHook']
