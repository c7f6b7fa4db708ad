from __future__ import annotations

from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import sobel_loss
from mmseg_cpg.ops.cpg.sobel import check_ksize

from .base import SegmentationLoss


@MODELS.register_module()
class SobelLoss(SegmentationLoss):
    """Squared difference of the Sobel gradients of prediction and label at all pixels, a baseline for ``CPGLoss``.

    Use it together with a pixel-wise loss. See :func:`mmseg_cpg.ops.sobel_loss` for the equations and the handling of
    void pixels.

    Args:
        ksize (int): Odd kernel size in [3, 11]. Defaults to 3.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        class_weight (list[float] | str, optional): Factor of each class, or a file with them.
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
        super().__init__(loss_weight, loss_name, reduction, class_weight)
        check_ksize(ksize)
        self.ksize = ksize

    def compute(self, logits: Tensor, label: Tensor, **options: Any) -> Tensor:
        return sobel_loss(logits, label, self.ksize, class_weight=self._class_weight_for(logits), **options)
