from .autocast_backbone import AutocastBackbone
from .efficientnet_lite import EfficientNetLite0
from .gradnet import GraDNet

__all__ = ['AutocastBackbone', 'EfficientNetLite0', 'GraDNet']
