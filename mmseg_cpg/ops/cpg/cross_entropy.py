"""The main loss that is computed together with the CPG loss: MMSegmentation's ``CrossEntropyLoss``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .._common import compute_dtype
from .._validation import split_void, void_mask


@dataclass(frozen=True)
class CrossEntropy:
    """The options of the main loss, and the loss of each pixel in plain torch.

    Attributes:
        use_sigmoid: Binary cross-entropy, class by class, instead of that of the softmax.
        ignore_index: Id of void pixels in the label.
        class_weight: (C,) in the dtype of the result, or None for 1: factor of each pixel by its class; with
            ``use_sigmoid`` that of the positive term of each class.
        num_classes: C.
    """

    use_sigmoid: bool
    ignore_index: int
    class_weight: Tensor | None
    num_classes: int

    def ids(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Class ids as int64, 0 at void pixels, and the mask of void pixels; raises ValueError for other ids."""
        ids, void = split_void(label, self.ignore_index, max(self.num_classes, 2))
        return ids.long(), void

    def label_weight(self, label: Tensor) -> Tensor:
        """The sum over valid pixels of their class weights in the softmax's cross-entropy; else their number."""
        if self.class_weight is not None and not self.use_sigmoid:
            ids, void = self.ids(label)
            return self.class_weight[ids].masked_fill_(void, 0).sum()
        return label.numel() - void_mask(label, self.ignore_index).count_nonzero()

    def divisor(self, label_weight: Tensor, num_pixels: int, avg_non_ignore: bool) -> Tensor | int:
        """Divisor of the mean over the pixels, never 0, from the label's :meth:`label_weight`."""
        if self.class_weight is not None and not self.use_sigmoid:
            return torch.where(label_weight == 0, 1, label_weight)
        count = label_weight.clamp(min=1) if avg_non_ignore else max(num_pixels, 1)
        return count * (self.num_classes if self.use_sigmoid else 1)

    def of_pixels(self, logits: Tensor, label: Tensor) -> Tensor:
        """The loss of each pixel, (B, H, W), in plain torch."""
        ids, void = self.ids(label)
        logits = logits.to(compute_dtype(logits)).masked_fill(void[:, None], 0)
        if not self.use_sigmoid:
            return F.cross_entropy(logits, ids.masked_fill(void, -100), self.class_weight, reduction='none')
        one_hot = torch.arange(self.num_classes, device=label.device).view(-1, 1, 1) == ids[:, None]
        if self.num_classes == 1:
            one_hot = ids[:, None] == 1
        pos_weight = None if self.class_weight is None else self.class_weight.view(-1, 1, 1)
        error = F.binary_cross_entropy_with_logits(
            logits, one_hot.to(logits.dtype), pos_weight=pos_weight, reduction='none'
        )
        return error.sum(1).masked_fill(void, 0)
