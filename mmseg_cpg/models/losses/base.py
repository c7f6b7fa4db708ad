from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import Any

import torch.nn as nn
from torch import Tensor

from mmseg_cpg.ops.arguments import check_reduction


class SegmentationLoss(nn.Module, ABC):
    """What all losses here share: how a decode head calls them, and the name under which it logs and sums them.

    A subclass checks and keeps its options, and hands them in :meth:`compute` to the function that has the maths.

    Args:
        loss_weight (float): Factor of this loss.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
        reduction (str): 'none', 'mean' or 'sum'.

    Raises:
        ValueError: ``loss_weight`` is not a finite number, or there is no such ``reduction``.
    """

    def __init__(self, loss_weight: float, loss_name: str, reduction: str) -> None:
        super().__init__()
        if isinstance(loss_weight, bool) or not isinstance(loss_weight, Real) or not math.isfinite(loss_weight):
            raise ValueError(f'loss_weight must be a finite number, got {loss_weight!r}')
        check_reduction(reduction)
        self.loss_weight = loss_weight
        self.reduction = reduction
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        return self._loss_name

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Compute the loss; the function in :mod:`mmseg_cpg.ops` that it is made of says what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (Tensor, optional): Factor of each pixel, (B, H, W).
            avg_factor (float | Tensor, optional): Divisor of the mean, in place of the number of its terms.
            reduction_override (str, optional): Takes the place of ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, or a value for each pixel for reduction 'none', float32 (float64 for float64 logits).
        """
        return self.loss_weight * self.compute(
            pred,
            target,
            ignore_index=ignore_index,
            weight=weight,
            avg_factor=avg_factor,
            reduction=reduction_override or self.reduction,
        )

    @abstractmethod
    def compute(self, logits: Tensor, label: Tensor, **options: Any) -> Tensor:
        """The loss without ``loss_weight``.

        Args:
            logits (Tensor): (B, C, H, W).
            label (Tensor): (B, H, W).
            options: ``ignore_index``, ``weight``, ``avg_factor`` and ``reduction``, as the head has them.
        """

    def _refuse(self, reason: str, **arguments: object) -> None:
        """Raise ValueError for what a head may hand to any loss and has no meaning for this one, unless it is None."""
        for name, value in arguments.items():
            if value is not None:
                got = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) else repr(value)
                raise ValueError(f'{name} must be None, since {reason}, got {got}')
