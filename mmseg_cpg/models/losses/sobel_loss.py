from __future__ import annotations

from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import sobel_loss
from mmseg_cpg.ops.arguments import check_reduction
from mmseg_cpg.ops.kernels import check_ksize

from .base import SegmentationLoss


@MODELS.register_module()
class SobelLoss(SegmentationLoss):
    """Squared difference of the Sobel gradients of prediction and label at all pixels, a baseline for ``CPGLoss``.

    Use it beside a pixel-wise loss. :func:`mmseg_cpg.ops.sobel_loss` has the equations and what void pixels do.

    Args:
        ksize (int): Odd kernel size in [3, 11]. Defaults to 3.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        class_weight (list[float] | str, optional): Factor of each class, or a file that holds them.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_sobel'.
    """

    def __init__(
        self,
        ksize: int = 3,
        loss_weight: float = 1.0,
        class_weight: list[float] | str | None = None,
        reduction: str = 'mean',
        loss_name: str = 'loss_sobel',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_ksize(ksize)
        check_reduction(reduction)
        self.ksize = ksize
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
        """Compute the loss; see :func:`mmseg_cpg.ops.sobel_loss` for what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (Tensor, optional): Factor of each pixel, (B, H, W).
            avg_factor (float | Tensor, optional): Divisor in place of the number of terms.
            reduction_override (str, optional): Takes the place of ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, or (B, H, W) for reduction 'none', float32.
        """
        return self.loss_weight * sobel_loss(
            pred,
            target,
            self.ksize,
            ignore_index=ignore_index,
            weight=weight,
            class_weight=self.class_weight,
            avg_factor=avg_factor,
            reduction=reduction_override or self.reduction,
        )
