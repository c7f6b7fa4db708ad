from __future__ import annotations

from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import boundary_cross_entropy_loss
from mmseg_cpg.ops.arguments import check_reduction
from mmseg_cpg.ops.boundary import check_ignore_policy
from mmseg_cpg.ops.boundary_cross_entropy_loss import check_width_px

from .base import SegmentationLoss


@MODELS.register_module()
class BoundaryCrossEntropyLoss(SegmentationLoss):
    """Cross-entropy near the boundaries of the label only, the plainest baseline for losses at boundaries.

    Use it beside a pixel-wise loss. :func:`mmseg_cpg.ops.boundary_cross_entropy_loss` says what is near, and what void
    pixels do.

    Args:
        width_px (int): Width of the band in pixels on each side of a boundary. Defaults to 3.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        ignore_policy (str): ``'exclude'`` or ``'as_background'``. Defaults to 'exclude'.
        class_weight (list[float] | str, optional): Factor of each class, or a file that holds them.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_boundary_ce'.
    """

    def __init__(
        self,
        width_px: int = 3,
        loss_weight: float = 1.0,
        ignore_policy: str = 'exclude',
        class_weight: list[float] | str | None = None,
        reduction: str = 'mean',
        loss_name: str = 'loss_boundary_ce',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_width_px(width_px)
        check_ignore_policy(ignore_policy)
        check_reduction(reduction)
        self.width_px = width_px
        self.ignore_policy = ignore_policy
        self.class_weight = get_class_weight(class_weight)
        self.reduction = reduction

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Compute the loss; see :func:`mmseg_cpg.ops.boundary_cross_entropy_loss` for what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (Tensor, optional): Factor of each pixel, (B, H, W).
            avg_factor (float | Tensor, optional): Divisor in place of the number of pixels in the band.
            reduction_override (str, optional): Takes the place of ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, or (B, H, W) for reduction 'none', float32.
        """
        return self.loss_weight * boundary_cross_entropy_loss(
            pred,
            target,
            self.width_px,
            ignore_index=ignore_index,
            ignore_policy=self.ignore_policy,
            weight=weight,
            class_weight=self.class_weight,
            avg_factor=avg_factor,
            reduction=reduction_override or self.reduction,
        )
