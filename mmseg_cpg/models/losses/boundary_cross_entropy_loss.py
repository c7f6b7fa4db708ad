from __future__ import annotations

from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import boundary_cross_entropy_loss
from mmseg_cpg.ops._validation import check_int
from mmseg_cpg.ops.cpg.options import check_ignore_policy

from .base import SegmentationLoss


@MODELS.register_module()
class BoundaryCrossEntropyLoss(SegmentationLoss):
    """Cross-entropy near the boundaries of the label only, the simplest baseline for boundary losses.

    Use it together with a pixel-wise loss. See :func:`mmseg_cpg.ops.boundary_cross_entropy_loss` for the definition of
    the band and the handling of void pixels.

    Args:
        width_px (int): Width of the band in pixels on each side of a boundary. Defaults to 3.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        ignore_policy (str): ``'exclude'`` or ``'as_background'``. Defaults to 'exclude'.
        class_weight (list[float] | str, optional): Factor of each class, or a file with them.
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
        super().__init__(loss_weight, loss_name, reduction, class_weight)
        check_int('width_px', width_px, 1)
        check_ignore_policy(ignore_policy)
        self.width_px = width_px
        self.ignore_policy = ignore_policy

    def compute(self, logits: Tensor, label: Tensor, **options: Any) -> Tensor:
        return boundary_cross_entropy_loss(
            logits,
            label,
            self.width_px,
            ignore_policy=self.ignore_policy,
            class_weight=self._class_weight_for(logits),
            **options,
        )
