from __future__ import annotations

from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import rmi_loss
from mmseg_cpg.ops.rmi_loss import check_preset, check_region_reduction

from .base import SegmentationLoss


@MODELS.register_module()
class RMILoss(SegmentationLoss):
    """Region Mutual Information loss (Zhao et al., NeurIPS 2019, arXiv 1910.12037) for ``loss_decode``.

    Use it beside a pixel-wise loss: ``loss_decode=[dict(type='CrossEntropyLoss', use_sigmoid=True, ...),
    dict(type='RMILoss', loss_weight=0.5)]``; the cross-entropy that the official code adds is not part of it.
    :func:`mmseg_cpg.ops.rmi_loss` has the equations, what the presets set, and what void pixels and NaN do.

    Args:
        preset (str): ``'official'``, the defaults of the official code, or ``'paper'``, the paper's text. Defaults to
            'official'.
        radius (int): Side of the square regions, in pixels of the downsampled maps. Defaults to 3.
        pool_size (int, optional): Factor of the downsampling in place of the preset's.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        class_weight (list[float] | str, optional): Factor of each class, or a file that holds them.
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
        super().__init__(loss_weight, loss_name)
        check_preset(preset, radius, pool_size)
        check_region_reduction(reduction)
        self.preset = preset
        self.radius = radius
        self.pool_size = pool_size
        self.class_weight = get_class_weight(class_weight)
        self.reduction = reduction

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Compute the loss; see :func:`mmseg_cpg.ops.rmi_loss` for what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (None): Factors of pixels, for example OHEM's, are refused: no term belongs to one pixel.
            avg_factor (float | Tensor, optional): Divisor in place of the number of images.
            reduction_override (str, optional): Takes the place of ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, float32.
        """
        if weight is not None:
            got = f'shape {tuple(weight.shape)}' if isinstance(weight, Tensor) else repr(weight)
            raise ValueError(f'weight must be None, since no term of RMILoss belongs to one pixel, got {got}')
        return self.loss_weight * rmi_loss(
            pred,
            target,
            self.preset,
            radius=self.radius,
            pool_size=self.pool_size,
            ignore_index=ignore_index,
            class_weight=self.class_weight,
            avg_factor=avg_factor,
            reduction=reduction_override or self.reduction,
        )
