from .auto_labelled_sampler import AutoLabelledSampler

__all__ = ['AutoLabelledSampler']
