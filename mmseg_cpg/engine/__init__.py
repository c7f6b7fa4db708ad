from .hooks import (
    BoundaryTargetHook,
    BoundaryVisualizationHook,
    CheckBatchSizeHook,
    CPGLogHook,
    ReproducibleResumeHook,
)

__all__ = [
    'BoundaryTargetHook',
    'BoundaryVisualizationHook',
    'CPGLogHook',
    'CheckBatchSizeHook',
    'ReproducibleResumeHook',
]
