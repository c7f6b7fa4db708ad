from .auto_labelled_cityscapes import AutoLabelledCityscapesDataset
from .samplers import AutoLabelledSampler
from .transforms import BlankImageFromLabel, BoundaryMaskFromLabel

__all__ = ['AutoLabelledCityscapesDataset', 'AutoLabelledSampler', 'BlankImageFromLabel', 'BoundaryMaskFromLabel']
