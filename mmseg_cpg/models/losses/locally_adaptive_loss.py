from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import locally_adaptive_loss
from mmseg_cpg.ops.arguments import check_reduction
from mmseg_cpg.ops.kernels import check_ksize
from mmseg_cpg.ops.locally_adaptive_loss import check_power, check_stride

from .base import SegmentationLoss


@MODELS.register_module()
class LocallyAdaptiveLoss(SegmentationLoss):
    """Locally adaptive learning loss (Guo et al., arXiv 1802.08290) for ``loss_decode``.

    It is pixel-wise and takes the place of cross-entropy: ``loss_decode=dict(type='LocallyAdaptiveLoss', ksize=5)``.
    :func:`mmseg_cpg.ops.locally_adaptive_loss` has the equations, the choices made, what void pixels do and why three
    classes are needed at least.

    Args:
        ksize (int): Odd window size in [3, 11]. Defaults to 5, the paper's best.
        stride (int): Distance of the windows' centres. Defaults to 1.
        power (float): Minkowski exponent, the paper's k. Defaults to 3.0.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        reduction (str): 'none', 'mean' or 'sum', the latter two over images. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_locally_adaptive'.
    """

    def __init__(
        self,
        ksize: int = 5,
        stride: int = 1,
        power: float = 3.0,
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        loss_name: str = 'loss_locally_adaptive',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_ksize(ksize)
        check_stride(stride)
        check_power(power)
        check_reduction(reduction)
        self.ksize = ksize
        self.stride = stride
        self.power = power
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
        """Compute the loss; see :func:`mmseg_cpg.ops.locally_adaptive_loss` for what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W) with C >= 3.
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (Tensor, optional): Factor of each pixel, (B, H, W), >= 0.
            avg_factor (float | Tensor, optional): Divisor in place of the number of images with valid pixels.
            reduction_override (str, optional): Takes the place of ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, or (B, ceil(H / stride), ceil(W / stride)) for reduction 'none', float32.
        """
        return self.loss_weight * locally_adaptive_loss(
            pred,
            target,
            self.ksize,
            stride=self.stride,
            power=self.power,
            ignore_index=ignore_index,
            weight=weight,
            avg_factor=avg_factor,
            reduction=reduction_override or self.reduction,
        )
