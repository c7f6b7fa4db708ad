from __future__ import annotations

from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import locally_adaptive_loss
from mmseg_cpg.ops._validation import check_int
from mmseg_cpg.ops.cpg.sobel import check_ksize
from mmseg_cpg.ops.locally_adaptive import check_power

from .base import SegmentationLoss


@MODELS.register_module()
class LocallyAdaptiveLoss(SegmentationLoss):
    """Locally adaptive learning loss (Guo et al., arXiv 1802.08290) for ``loss_decode``.

    It is a pixel-wise loss and replaces cross-entropy: ``loss_decode=dict(type='LocallyAdaptiveLoss', ksize=5)``. See
    :func:`mmseg_cpg.ops.locally_adaptive_loss` for the equations, the choices made, the handling of void pixels and why
    at least three classes are required.

    Args:
        ksize (int): Odd window size in [3, 11]. Defaults to 5, the paper's best.
        stride (int): Distance of the window centers in pixels. Defaults to 1.
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
        super().__init__(loss_weight, loss_name, reduction)
        check_ksize(ksize)
        check_int('stride', stride, 1)
        check_power(power)
        self.ksize = ksize
        self.stride = stride
        self.power = power

    def compute(self, logits: Tensor, label: Tensor, **options: Any) -> Tensor:
        return locally_adaptive_loss(logits, label, self.ksize, stride=self.stride, power=self.power, **options)
