from .boundary_target_hook import BoundaryTargetHook
from .boundary_visualization_hook import BoundaryVisualizationHook
from .check_batch_size_hook import CheckBatchSizeHook
from .cpg_log_hook import CPGLogHook
from .loss_weight_hook import LossWeightHook
from .peak_memory_hook import PeakMemoryHook
from .reproducible_resume_hook import ReproducibleResumeHook

__all__ = [
    'BoundaryTargetHook',
    'BoundaryVisualizationHook',
    'CPGLogHook',
    'CheckBatchSizeHook',
    'LossWeightHook',
    'PeakMemoryHook',
    'ReproducibleResumeHook',
]
