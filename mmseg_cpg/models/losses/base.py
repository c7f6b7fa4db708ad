from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import yaml
from mmengine import fileio
from torch import Tensor

from mmseg_cpg.ops._validation import check_label, check_logits, check_number, check_reduction


class ClassWeighted:
    """A module with class weights that are converted once and stay on the logits' device.

    Attributes:
        class_weight: From :func:`read_class_weight`. Not a buffer: half precision would round it, and to_empty() would
            lose it, as it is in no checkpoint.
    """

    class_weight: Tensor | None

    @torch.inference_mode(False)  # tensors created in inference mode cannot be used in training
    def _class_weight_for(self, logits: Tensor) -> Tensor | None:
        """Move the class weights to the logits' device, once, as copying waits for the device, and return them."""
        if self.class_weight is not None:
            self.class_weight = self.class_weight.to(logits.device)
        return self.class_weight


class SegmentationLoss(ClassWeighted, nn.Module, ABC):
    """Base class of all losses in this package: the interface of MMSegmentation's decode heads.

    A subclass checks and stores its options and passes them to a function of :mod:`mmseg_cpg.ops` in :meth:`compute`.

    Args:
        loss_weight (float): Factor of this loss.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
        reduction (str): 'none', 'mean' or 'sum'.
        class_weight (list[float] | str, optional): Factor of each class, or a .json, .yaml or .npy file with them.
            Unlike MMSegmentation's own losses, these do not read pickles (.pkl) or YAML that builds objects, because
            loading them can run code.

    Raises:
        TypeError: ``loss_name`` is not a str or ``loss_weight`` not a number.
        ValueError: ``loss_weight`` is not finite, ``class_weight`` is not a list of finite numbers, or
            ``reduction`` is unknown.
    """

    def __init__(
        self, loss_weight: float, loss_name: str, reduction: str, class_weight: list[float] | str | None = None
    ) -> None:
        super().__init__()
        check_number('loss_weight', loss_weight)
        if not isinstance(loss_name, str):
            raise TypeError(f'loss_name must be a str, got {loss_name!r}')
        check_reduction(reduction)
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.class_weight = read_class_weight(class_weight)
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
        """Compute the loss; see the function in :mod:`mmseg_cpg.ops` for the errors raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (Tensor, optional): Factor of each pixel, (B, H, W).
            avg_factor (float | Tensor, optional): Divisor of the mean, in place of the number of its terms.
            reduction_override (str, optional): Replaces ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, or a value for each pixel for reduction 'none', float32 (float64 for float64 logits).
        """
        check_logits(pred, check_label(target))
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
            options: ``ignore_index``, ``weight``, ``avg_factor`` and ``reduction``, as passed by the head.
        """

    def _refuse(self, reason: str, **arguments: object) -> None:
        """Reject arguments that this loss does not support, unless they are None."""
        for name, value in arguments.items():
            if value is not None:
                got = f'a tensor of shape {tuple(value.shape)}' if isinstance(value, Tensor) else repr(value)
                raise ValueError(f'{name} must be None, since {reason}, got {got}')


def read_class_weight(class_weight: list[float] | Tensor | str | None) -> Tensor | None:
    """The class weights as a float32 tensor on the CPU.

    Raises:
        ValueError: They are not a list of finite numbers, or a file with one.
    """
    if class_weight is None:
        return None
    values = _load(class_weight) if isinstance(class_weight, str) else class_weight
    try:
        weight = torch.as_tensor(values, dtype=torch.float32, device='cpu')
    except (TypeError, ValueError, RuntimeError):
        weight = torch.empty(0, device='cpu')
    if weight.dim() != 1 or not weight.numel() or not weight.isfinite().all():
        raise ValueError(f'class_weight must be a list of finite numbers, one for each class, got {class_weight!r}')
    return weight


def _load(path: str) -> object:
    """Read a file of plain values."""
    suffix = Path(path).suffix
    if suffix not in ('.json', '.npy', '.yaml', '.yml'):
        raise ValueError(f'class_weight must be a list of numbers or a .json, .npy or .yaml file, got {path!r}')
    try:
        if suffix == '.npy':
            return np.load(path)
        content = fileio.get_text(path)
        return json.loads(content) if suffix == '.json' else yaml.safe_load(content)
    except (ValueError, EOFError, yaml.YAMLError) as error:
        raise ValueError(f'class_weight {path!r} cannot be read: {error}') from error
