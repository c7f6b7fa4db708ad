from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import boundary_f1_loss
from mmseg_cpg.ops.boundary_f1_loss import check_thetas

from .base import SegmentationLoss


@MODELS.register_module()
class BoundaryF1Loss(SegmentationLoss):
    """Boundary F1 score as a loss (Bokhovkin & Burnaev, arXiv 1905.07852).

    (MMSegmentation's own ``BoundaryLoss`` is something else, a loss for PIDNet's boundary branch.) Use it beside a
    pixel-wise loss. :func:`mmseg_cpg.ops.boundary_f1_loss` has the equations, and what void pixels and absent classes
    do.

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
        super().__init__(loss_weight, loss_name)
        check_thetas(theta0, theta)
        self.theta0 = theta0
        self.theta = theta

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Compute the loss; see :func:`mmseg_cpg.ops.boundary_f1_loss` for what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight, avg_factor, reduction_override: Must be None: a score has no terms of single pixels.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, float32.
        """
        self._refuse(
            f'{type(self).__name__} has no terms of single pixels',
            weight=weight,
            avg_factor=avg_factor,
            reduction_override=reduction_override,
        )
        return self.loss_weight * boundary_f1_loss(pred, target, self.theta0, self.theta, ignore_index=ignore_index)
