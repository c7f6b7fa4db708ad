from .hooks import (
    BoundaryTargetHook,
    BoundaryVisualizationHook,
    CheckBatchSizeHook,
    CPGLogHook,
    PeakMemoryHook,
    ReproducibleResumeHook,
)

__all__ = [
    'BoundaryTargetHook',
    'BoundaryVisualizationHook',
    'CPGLogHook',
    'CheckBatchSizeHook',
    'PeakMemoryHook',
    'ReproducibleResumeHook',
]
