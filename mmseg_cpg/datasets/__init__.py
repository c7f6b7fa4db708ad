from .auto_labelled_cityscapes import AutoLabelledCityscapesDataset
from .samplers import AutoLabelledSampler
from .transforms import BoundaryMaskFromLabel

__all__ = ['AutoLabelledCityscapesDataset', 'AutoLabelledSampler', 'BoundaryMaskFromLabel']
