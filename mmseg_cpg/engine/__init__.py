from .hooks import (
    BoundaryTargetHook,
    BoundaryVisualizationHook,
    CheckBatchSizeHook,
    CPGLogHook,
    LossWeightHook,
    PeakMemoryHook,
    ReproducibleResumeHook,
)

__all__ = [
    'BoundaryTargetHook',
    'BoundaryVisualizationHook',
    'CPGLogHook',
    'CheckBatchSizeHook',
    'LossWeightHook',
    'PeakMemoryHook',
    'ReproducibleResumeHook',
]
