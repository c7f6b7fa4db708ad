from __future__ import annotations

from typing import Any

import torch.nn as nn
from mmcv.cnn import ConvModule, build_activation_layer
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cpg.ops.gradient_layer import check_edge_side, check_threshold, gradient_layer

_STEM_CHANNELS, _CHANNELS, _BOTTLENECK_CHANNELS = 128, 16, 8
_STRIDE = 32  # of the lowest resolution


class _Pair(nn.Sequential):
    """A 1 x k and a k x 1 convolution, each with stride 2 along its kernel: together they halve the resolution."""

    def __init__(
        self, in_channels: int, channels: int, ksize: int, norm_cfg: dict, act_cfg: dict, last_act_cfg: dict | None
    ) -> None:
        half = ksize // 2
        super().__init__(
            ConvModule(in_channels, channels, (1, ksize), (1, 2), (0, half), norm_cfg=norm_cfg, act_cfg=act_cfg),
            ConvModule(channels, channels, (ksize, 1), (2, 1), (half, 0), norm_cfg=norm_cfg, act_cfg=last_act_cfg),
        )


@MODELS.register_module()
class GraDNet(BaseModule):
    """GraDNet (Jia et al., "Pixel-level semantic segmentation based on gradient features", ICCSCT 2022).

    Conv1 at 1/4 of the image resolution, followed by the gradient layer (:func:`mmseg_cpg.ops.gradient_layer`); Conv2
    and 3 at 1/8; three residual blocks, Conv4 to 7, 8 to 11 and 12 to 15, each a bottleneck of 16, 8 and 16 channels
    that goes down to 1/32 and is interpolated before it is added to its input; max pooling. Conv16, the 1 x 1
    classifier, is an ``FCNHead`` with ``num_convs=0``. configs/gradnet/README.md lists the choices where the paper is
    ambiguous.

    Images may have any size; below 13 px the gradient layer has no effect.

    Args:
        in_channels (int): Channels of the image. Defaults to 3.
        threshold (float): lambda of the gradient layer. Defaults to 0.1.
        edge_side (str): ``'above'`` or ``'below'``, the side of ``threshold`` that is an edge in the gradient layer.
            Defaults to 'above'.
        align_corners (bool): ``align_corners`` of the interpolation in the blocks. Defaults to False.
        norm_cfg (dict): Norm layer after each convolution. Defaults to dict(type='BN').
        act_cfg (dict): Activation after each norm layer. Defaults to dict(type='ReLU').
        init_cfg (dict | list[dict], optional): Initialization config. Defaults to Kaiming initialization.

    Raises:
        TypeError, ValueError: ``threshold`` or ``edge_side`` is invalid.
    """

    def __init__(
        self,
        in_channels: int = 3,
        threshold: float = 0.1,
        edge_side: str = 'above',
        align_corners: bool = False,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006  as in MMSegmentation; never changed
        act_cfg: dict = dict(type='ReLU'),  # noqa: B006
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='Kaiming', layer='Conv2d'))
        check_threshold(threshold)
        check_edge_side(edge_side)
        self.in_channels = in_channels
        self.threshold = threshold
        self.edge_side = edge_side
        self.align_corners = align_corners

        self.conv1 = ConvModule(in_channels, _STEM_CHANNELS, 11, 4, 5, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.conv2_3 = _Pair(_STEM_CHANNELS, _CHANNELS, 3, norm_cfg, act_cfg, act_cfg)
        # As in ResNet, the last activation of a block follows the addition.
        self.blocks = nn.ModuleList(
            nn.Sequential(
                _Pair(_CHANNELS, _BOTTLENECK_CHANNELS, 5, norm_cfg, act_cfg, act_cfg),
                _Pair(_BOTTLENECK_CHANNELS, _CHANNELS, 3, norm_cfg, act_cfg, None),
            )
            for _ in range(3)
        )
        self.act = build_activation_layer(act_cfg)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the features of a batch of images.

        Args:
            x (Tensor): (B, in_channels, H, W).

        Returns:
            tuple[Tensor]: One map, (B, 16, ceil(ceil(H / 4) / 2), ceil(ceil(W / 4) / 2)).

        Raises:
            ValueError: ``x`` has another shape, or in training is a single image of at most 32 px, which leaves batch
                norm one value per channel at the lowest resolution.
        """
        self._check(x)
        x = gradient_layer(self.conv1(x), self.threshold, self.edge_side)
        x = self.conv2_3(x)
        for block in self.blocks:
            low = resize(block(x), size=x.shape[2:], mode='bilinear', align_corners=self.align_corners)
            x = self.act(x + low)
        return (self.pool(x),)

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.in_channels or 0 in x.shape[2:]:
            raise ValueError(
                f'GraDNet expects images of shape (B, {self.in_channels}, H, W) with H, W > 0, got {tuple(x.shape)}'
            )
        norm: Any = self.blocks[-1][-1][-1].norm  # type: ignore[index]
        if isinstance(norm, _BatchNorm) and norm.training and len(x) == 1 and max(x.shape[2:]) <= _STRIDE:
            raise ValueError(
                f'GraDNet needs two or more images, or images larger than {_STRIDE} px, to train its batch norms, '
                f'got a batch of shape {tuple(x.shape)}'
            )
