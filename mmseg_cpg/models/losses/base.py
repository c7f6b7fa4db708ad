from __future__ import annotations

import math
from numbers import Real

import torch.nn as nn
from torch import Tensor


class SegmentationLoss(nn.Module):
    """What all losses here share: a weight, and the name under which a decode head logs and sums them.

    Args:
        loss_weight (float): Factor of this loss.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.

    Raises:
        ValueError: ``loss_weight`` is not a finite number.
    """

    def __init__(self, loss_weight: float, loss_name: str) -> None:
        super().__init__()
        if isinstance(loss_weight, bool) or not isinstance(loss_weight, Real) or not math.isfinite(loss_weight):
            raise ValueError(f'loss_weight must be a finite number, got {loss_weight!r}')
        self.loss_weight = loss_weight
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        return self._loss_name

    def _refuse(self, reason: str, **arguments: object) -> None:
        """Raise ValueError for what a head may hand to any loss and has no meaning for this one, unless it is None."""
        for name, value in arguments.items():
            if value is not None:
                got = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) else repr(value)
                raise ValueError(f'{name} must be None, since {reason}, got {got}')
