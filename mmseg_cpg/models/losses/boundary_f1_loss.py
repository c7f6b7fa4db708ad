from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import boundary_f1_loss
from mmseg_cpg.ops.boundary_f1 import check_thetas

from .base import SegmentationLoss


@MODELS.register_module()
class BoundaryF1Loss(SegmentationLoss):
    """Boundary F1 score as a loss (Bokhovkin & Burnaev, arXiv 1905.07852).

    Use it together with a pixel-wise loss. (MMSegmentation's ``BoundaryLoss`` is unrelated, a loss for PIDNet's
    boundary branch.) See :func:`mmseg_cpg.ops.boundary_f1_loss` for the equations and the handling of void pixels and
    absent classes. Pixel weights, for example OHEM's, ``avg_factor`` and reductions other than 'mean' are not
    supported: the F1 score is not a per-pixel loss.

    Args:
        theta0 (int): Odd size in pixels of the window that finds boundaries, at least 3. Defaults to 3.
        theta (int): Odd size in pixels of the window that extends them, at least 1. Defaults to 5.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_boundary_f1'.
    """

    def __init__(
        self, theta0: int = 3, theta: int = 5, loss_weight: float = 1.0, loss_name: str = 'loss_boundary_f1'
    ) -> None:
        super().__init__(loss_weight, loss_name, 'mean')
        check_thetas(theta0, theta)
        self.theta0 = theta0
        self.theta = theta

    def compute(
        self,
        logits: Tensor,
        label: Tensor,
        *,
        ignore_index: int,
        weight: Tensor | None,
        avg_factor: float | Tensor | None,
        reduction: str,
    ) -> Tensor:
        reason = 'BoundaryF1Loss is not a per-pixel loss'
        override = None if reduction == self.reduction else reduction
        self._refuse(reason, weight=weight, avg_factor=avg_factor, reduction_override=override)
        return boundary_f1_loss(logits, label, self.theta0, self.theta, ignore_index=ignore_index)
