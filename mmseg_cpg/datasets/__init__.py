from .auto_labelled_cityscapes import AutoLabelledCityscapesDataset
from .samplers import AutoLabelledSampler
from .transforms import BlankImageFromLabel, BoundaryDistanceFromLabel, BoundaryMaskFromLabel

__all__ = [
    'AutoLabelledCityscapesDataset',
    'AutoLabelledSampler',
    'BlankImageFromLabel',
    'BoundaryDistanceFromLabel',
    'BoundaryMaskFromLabel',
]
