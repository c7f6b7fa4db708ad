"""CPG loss for MMSegmentation: importing this package registers its modules."""

from .version import __version__

try:
    import mmseg  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != 'mmseg':
        raise
    # Nothing to register with, but mmseg_cpg.ops needs nothing but torch.
    __all__ = ['__version__']
else:
    from .datasets import (
        AutoLabelledCityscapesDataset,
        AutoLabelledSampler,
        BlankImageFromLabel,
        BoundaryDistanceFromLabel,
        BoundaryMaskFromLabel,
    )
    from .engine import (
        BoundaryTargetHook,
        BoundaryVisualizationHook,
        CheckBatchSizeHook,
        CPGLogHook,
        LossWeightHook,
        PeakMemoryHook,
        ReproducibleResumeHook,
    )
    from .evaluation.metrics import BoundaryMetric, EdgeMetric
    from .fuse import fuse_losses
    from .mmengine_scope import register_packages
    from .models import (
        ActiveBoundaryLoss,
        AutocastBackbone,
        BoundaryCrossEntropyLoss,
        BoundaryF1Loss,
        CPGLoss,
        CrossEntropyCPGLoss,
        EdgeNetwork,
        EfficientNetLite0,
        GraDNet,
        LocallyAdaptiveLoss,
        RMILoss,
        SEMEDALoss,
        SobelLoss,
    )
    from .precompute import precompute_boundaries

    register_packages()
    __all__ = [
        'ActiveBoundaryLoss',
        'AutoLabelledCityscapesDataset',
        'AutoLabelledSampler',
        'AutocastBackbone',
        'BlankImageFromLabel',
        'BoundaryCrossEntropyLoss',
        'BoundaryDistanceFromLabel',
        'BoundaryF1Loss',
        'BoundaryMaskFromLabel',
        'BoundaryMetric',
        'BoundaryTargetHook',
        'BoundaryVisualizationHook',
        'CPGLogHook',
        'CPGLoss',
        'CheckBatchSizeHook',
        'CrossEntropyCPGLoss',
        'EdgeMetric',
        'EdgeNetwork',
        'EfficientNetLite0',
        'GraDNet',
        'LocallyAdaptiveLoss',
        'LossWeightHook',
        'PeakMemoryHook',
        'RMILoss',
        'ReproducibleResumeHook',
        'SEMEDALoss',
        'SobelLoss',
        '__version__',
        'fuse_losses',
        'precompute_boundaries',
    ]
