from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class AutocastBackbone(BaseModule):
    """Runs a backbone in bfloat16 and channels-last, which is faster on CPUs with AMX.

    Head and losses stay in float32. MMEngine's ``AmpOptimWrapper``, autocast for whole models, does not support CPUs.

    Args:
        backbone: Config of the backbone.
        init_cfg: Initialization config.
    """

    def __init__(self, backbone: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            images: (B, 3, H, W).

        Returns:
            The features of the backbone in float32.
        """
        with torch.autocast(images.device.type, torch.bfloat16):
            features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return tuple(feature.float() for feature in features)
