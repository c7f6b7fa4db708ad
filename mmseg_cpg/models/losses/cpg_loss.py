from __future__ import annotations

import warnings

import torch
from mmseg.models.losses.utils import get_class_weight
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import BoundaryTargets, boundary_targets, cpg_loss
from mmseg_cpg.ops.arguments import check_label, check_logits, check_reduction
from mmseg_cpg.ops.boundary import check_ignore_policy
from mmseg_cpg.ops.kernels import check_ksize

from .base import SegmentationLoss

# So many batches in a row without any boundary entry are no accident.
_EMPTY_BATCHES_BEFORE_WARNING = 100


@MODELS.register_module()
class CPGLoss(SegmentationLoss):
    """Convolution-based Probability Gradient loss (Shan & Jia, arXiv 2404.06704) for ``loss_decode``.

    Use it beside a pixel-wise loss: ``loss_decode=[dict(type='CrossEntropyLoss', ...), dict(type='CPGLoss', ...)]``.
    :func:`mmseg_cpg.ops.cpg_loss` has the equations and what void pixels, empty boundaries and NaN do.

    Args:
        ksize (int): Odd kernel size in [3, 11]. Defaults to 3.
        loss_weight (float): Factor of this loss, the paper's lambda. Defaults to 1.0.
        use_sigmoid (bool): Take the sigmoid instead of the softmax; logits with one channel always do. The paper
            keeps the softmax here beside a main loss with ``use_sigmoid=True``. Defaults to False.
        ignore_policy (str): ``'exclude'`` or ``'as_background'``. Defaults to 'exclude'.
        class_weight (list[float] | str, optional): Factor of each class, or a file that holds them.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_cpg'.

    Attributes:
        precomputed (tuple[BoundaryTargets, ...]): Targets of the batch that the loss is called with next, where they
            were made beforehand; those that fit the call are used. ``BoundaryTargetHook`` sets and clears them.
    """

    def __init__(
        self,
        ksize: int = 3,
        loss_weight: float = 1.0,
        use_sigmoid: bool = False,
        ignore_policy: str = 'exclude',
        class_weight: list[float] | str | None = None,
        reduction: str = 'mean',
        loss_name: str = 'loss_cpg',
    ) -> None:
        super().__init__(loss_weight, loss_name)
        check_ksize(ksize)
        check_ignore_policy(ignore_policy)
        check_reduction(reduction)
        self.ksize = ksize
        self.use_sigmoid = use_sigmoid
        self.ignore_policy = ignore_policy
        self.class_weight = get_class_weight(class_weight)
        self.reduction = reduction
        self.precomputed: tuple[BoundaryTargets, ...] = ()
        self._told_misfit = False
        self._empty_batches = 0

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Compute the loss; see :func:`mmseg_cpg.ops.cpg_loss` for what is raised.

        Args:
            pred (Tensor): Logits, (B, C, H, W).
            target (Tensor): Label, (B, H, W), class ids or ``ignore_index``.
            weight (Tensor, optional): Factor of each pixel, (B, H, W).
            avg_factor (float | Tensor, optional): Divisor in place of the number of boundary entries.
            reduction_override (str, optional): Takes the place of ``reduction``.
            ignore_index (int): Id of void pixels. Defaults to 255.

        Returns:
            Tensor: Scalar, or (B, H, W) for reduction 'none', float32.
        """
        check_logits(pred, check_label(target))
        targets = self._targets(target, ignore_index, num_classes=max(pred.shape[1], 2))
        self._watch_for_empty_batches(len(targets))
        return self.loss_weight * cpg_loss(
            pred,
            target,
            self.ksize,
            ignore_index=ignore_index,
            ignore_policy=self.ignore_policy,
            use_sigmoid=self.use_sigmoid,
            weight=weight,
            class_weight=self.class_weight,
            avg_factor=avg_factor,
            reduction=reduction_override or self.reduction,
            targets=targets,
        )

    @torch.compiler.disable
    def _targets(self, label: Tensor, ignore_index: int, num_classes: int) -> BoundaryTargets:
        needed = (tuple(label.shape), self.ksize, ignore_index, self.ignore_policy)
        for targets in self.precomputed:
            if targets.made_with == needed:
                return targets
        if self.precomputed and not self._told_misfit:
            self._told_misfit = True
            warnings.warn(
                'CPGLoss finds the boundary itself: it needs (label shape, ksize, ignore_index, ignore_policy) = '
                f'{needed}, BoundaryMaskFromLabel made {", ".join(str(each.made_with) for each in self.precomputed)}.',
                stacklevel=2,
            )
        return boundary_targets(
            label,
            self.ksize,
            ignore_index=ignore_index,
            ignore_policy=self.ignore_policy,
            num_classes=num_classes,
        )

    def _watch_for_empty_batches(self, num_entries: int) -> None:
        self._empty_batches = 0 if num_entries else self._empty_batches + 1
        if self._empty_batches == _EMPTY_BATCHES_BEFORE_WARNING and self.ignore_policy == 'exclude':
            warnings.warn(
                f'CPGLoss found no boundary in {self._empty_batches} batches in a row and was 0. Where void pixels '
                "line every object, ignore_policy='exclude' leaves none; ignore_policy='as_background' keeps edges.",
                stacklevel=2,
            )
