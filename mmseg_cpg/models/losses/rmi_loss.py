from __future__ import annotations

from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import rmi_loss
from mmseg_cpg.ops.rmi import check_preset, check_region_reduction

from .base import SegmentationLoss


@MODELS.register_module()
class RMILoss(SegmentationLoss):
    """Region Mutual Information loss (Zhao et al., NeurIPS 2019, arXiv 1910.12037) for ``loss_decode``.

    Use it together with a pixel-wise loss: ``loss_decode=[dict(type='CrossEntropyLoss', use_sigmoid=True, ...),
    dict(type='RMILoss', loss_weight=0.5)]``; unlike the official code, it does not include cross-entropy. See
    :func:`mmseg_cpg.ops.rmi_loss` for the equations, the presets, and the handling of void pixels and NaN. Pixel
    weights, for example OHEM's, and reduction 'none' are not supported: RMI is not a per-pixel loss.

    Args:
        preset (str): ``'official'``, the defaults of the official code, or ``'paper'``, as described in the paper.
            Defaults to 'official'.
        radius (int): Side of the square regions, in pixels of the downsampled maps. Defaults to 3.
        pool_size (int, optional): Downsampling factor in place of the preset's.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        class_weight (list[float] | str, optional): Factor of each class, or a file with them.
        reduction (str): 'mean' over the images or their 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_rmi'.
    """

    def __init__(
        self,
        preset: str = 'official',
        radius: int = 3,
        pool_size: int | None = None,
        loss_weight: float = 1.0,
        class_weight: list[float] | str | None = None,
        reduction: str = 'mean',
        loss_name: str = 'loss_rmi',
    ) -> None:
        super().__init__(loss_weight, loss_name, reduction, class_weight)
        check_preset(preset, radius, pool_size)
        check_region_reduction(reduction)
        self.preset = preset
        self.radius = radius
        self.pool_size = pool_size

    def compute(self, logits: Tensor, label: Tensor, *, weight: Tensor | None, **options: Any) -> Tensor:
        self._refuse('RMILoss is not a per-pixel loss', weight=weight)
        return rmi_loss(
            logits,
            label,
            self.preset,
            radius=self.radius,
            pool_size=self.pool_size,
            class_weight=self._class_weight_for(logits),
            **options,
        )
