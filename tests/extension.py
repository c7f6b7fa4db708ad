"""What a package needs to add a third kind of precomputed target: this file, with a loss and its transform.

docs/advanced_guides/add_loss.md refers to it as an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS, TRANSFORMS
from torch import Tensor

from mmseg_cpg.datasets.transforms.base import BoundaryFromLabel
from mmseg_cpg.models.losses.precomputable import PrecomputableLoss, only


@dataclass(frozen=True)
class ClassShares:
    """The share of each class in a label, (C,), or in those of a batch, (B, C)."""

    shares: Tensor
    shape: tuple[int, ...]
    ignore_index: int

    @property
    def made_with(self) -> tuple:
        return self.shape, self.ignore_index


def class_shares(label: Tensor, num_classes: int, ignore_index: int) -> ClassShares:
    """Compute the shares of a label, (H, W), without void."""
    valid = label[label != ignore_index]
    counts = valid.bincount(minlength=num_classes)
    return ClassShares(counts / counts.sum().clamp(min=1), tuple(label.shape), ignore_index)


def stack_shares(targets: Sequence[ClassShares]) -> ClassShares:
    shares = torch.stack([each.shares for each in targets])
    return ClassShares(shares, (len(targets), *targets[0].shape), targets[0].ignore_index)


@TRANSFORMS.register_module()
class ClassSharesFromLabel(BoundaryFromLabel):
    """Compute the class shares for :class:`ClassShareLoss` in the data loader."""

    def __init__(self, num_classes: int, ignore_index: int, pad_size: tuple[int, int] | None, seg_pad_val: int) -> None:
        super().__init__(ignore_index, pad_size, seg_pad_val)
        self.num_classes = num_classes

    def make_targets(self, label: Tensor) -> dict[str, ClassShares]:
        return dict(shares=class_shares(label, self.num_classes, self.ignore_index))


@MODELS.register_module()
class ClassShareLoss(PrecomputableLoss):
    """Squared difference of the mean probability of each class and its share in the label."""

    family = 'class share losses'
    target_type = ClassShares
    stack_targets = staticmethod(stack_shares)
    transform = 'ClassSharesFromLabel'

    def __init__(self, num_classes: int, loss_weight: float = 1.0, loss_name: str = 'loss_shares') -> None:
        super().__init__(loss_weight, loss_name, 'mean')
        self.num_classes = num_classes
        self.num_computed = 0

    @classmethod
    def transform_options(cls, losses: Sequence[tuple[dict, int]]) -> dict[str, Any]:
        return dict(
            num_classes=only({loss['num_classes'] for loss, _ in losses}, 'num_classes in all class share losses'),
            ignore_index=only({ignore_index for _, ignore_index in losses}, 'ignore_index in all class share losses'),
        )

    def compute(self, logits: Tensor, label: Tensor, *, ignore_index: int, **options: Any) -> Tensor:
        targets = self._take_precomputed((tuple(label.shape), ignore_index), 'label shape, ignore_index')
        if targets is None:
            self.num_computed += 1
            targets = stack_shares([class_shares(each, self.num_classes, ignore_index) for each in label])
        return F.mse_loss(logits.softmax(1).mean((2, 3)), targets.shares)
