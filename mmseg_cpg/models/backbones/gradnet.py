from __future__ import annotations

import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops.gradient_layer import check_edge_side, check_threshold, gradient_layer

# Table 1: Conv1, then the pairs Conv2 and 3, Conv4 and 5, ... Conv14 and 15 as (channels, kernel size).
_STEM_CHANNELS = 128
_PAIRS = ((16, 3), (8, 5), (16, 3), (8, 5), (16, 3), (8, 5), (16, 3))
_STRIDE = 4 * 2 ** len(_PAIRS)


@MODELS.register_module()
class GraDNet(BaseModule):
    """GraDNet (Jia et al., "Pixel-level semantic segmentation based on gradient features", ICCSCT 2022).

    Conv1 and the gradient layer (:func:`mmseg_cpg.ops.gradient_layer`) at 1/4 of the image's resolution, then seven
    pairs of a 1 x k and a k x 1 convolution, each of which halves it, down to 1/512. The outputs with 16 channels, at
    1/8, 1/32, 1/128 and 1/512, are added up from the lowest resolution to the highest, and max-pooled. Conv16, the
    1 x 1 classifier, is an ``FCNHead`` with ``num_convs=0``; configs/gradnet/README.md lists what the paper leaves
    open and what is done about it.

    Images may have any size; the gradient layer does nothing below 13 px.

    Args:
        in_channels (int): Channels of the image. Defaults to 3.
        threshold (float): lambda of the gradient layer. Defaults to 0.1.
        edge_side (str): ``'above'`` or ``'below'``, on which side of ``threshold`` the gradient layer sees an edge.
            Defaults to 'above'.
        align_corners (bool): Of the interpolation before adding. Defaults to False.
        norm_cfg (dict): Norm layer behind each convolution. Defaults to dict(type='BN').
        act_cfg (dict): Activation behind each norm layer. Defaults to dict(type='ReLU').
        init_cfg (dict | list[dict], optional): Initialisation of the weights. Defaults to Kaiming's.

    Raises:
        TypeError, ValueError: ``threshold`` or ``edge_side`` is not what the gradient layer takes.
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

        def conv(in_channels, out_channels, kernel_size, stride):
            padding = tuple(size // 2 for size in kernel_size)
            settings = dict(stride=stride, padding=padding, norm_cfg=norm_cfg, act_cfg=act_cfg)
            return ConvModule(in_channels, out_channels, kernel_size, **settings)

        self.conv1 = conv(in_channels, _STEM_CHANNELS, (11, 11), 4)
        self.pairs = nn.ModuleList()
        channels = _STEM_CHANNELS
        for out_channels, ksize in _PAIRS:
            wide = conv(channels, out_channels, (1, ksize), (1, 2))
            tall = conv(out_channels, out_channels, (ksize, 1), (2, 1))
            self.pairs.append(nn.Sequential(wide, tall))
            channels = out_channels
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute the features of a batch of images.

        Args:
            x (Tensor): (B, in_channels, H, W).

        Returns:
            tuple[Tensor]: One map, (B, 16, ceil(ceil(H / 4) / 2), ceil(ceil(W / 4) / 2)).

        Raises:
            ValueError: ``x`` has another shape, or is a single image of at most 512 px to train BN with, which leaves
                its last layer one value for each channel.
        """
        self._check(x)
        x = self.conv1(x)
        x = gradient_layer(x, self.threshold, self.edge_side)
        levels = []
        for pair in self.pairs:
            x = pair(x)
            levels.append(x)
        *higher, x = levels[::2]
        for level in reversed(higher):
            x = level + resize(x, size=level.shape[2:], mode='bilinear', align_corners=self.align_corners)
        return (self.pool(x),)

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != self.in_channels or 0 in x.shape[2:]:
            raise ValueError(
                f'GraDNet expects images of shape (B, {self.in_channels}, H, W) with H, W > 0, got {tuple(x.shape)}'
            )
        norm = self.pairs[-1][-1].norm
        if isinstance(norm, nn.BatchNorm2d) and norm.training and len(x) == 1 and max(x.shape[2:]) <= _STRIDE:
            raise ValueError(
                f'GraDNet with BN is trained with two or more images on a GPU, or images larger than {_STRIDE} px, '
                f'got a batch of shape {tuple(x.shape)}'
            )
