from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import BoundaryTargets, cpg_loss, stack_targets
from mmseg_cpg.ops.cpg.implementations import Choice, check_implementation, choose_implementation
from mmseg_cpg.ops.cpg.options import CPGOptions

from .precomputable import PrecomputableLoss, only
from .zero_streak import ZeroStreak

# This many consecutive batches without a boundary entry are unlikely to be chance.
_EMPTY_BATCHES_BEFORE_WARNING = 100


@MODELS.register_module()
class CPGLoss(PrecomputableLoss):
    """Convolution-based Probability Gradient loss (Shan & Jia, arXiv 2404.06704) for ``loss_decode``.

    Use it together with a pixel-wise loss: ``loss_decode=[dict(type='CrossEntropyLoss', ...), dict(type='CPGLoss',
    ...)]``. See :func:`mmseg_cpg.ops.cpg_loss` for the equations and the handling of void pixels, empty boundaries and
    NaN.

    Args:
        ksize (int): Odd kernel size in [3, 11]. Defaults to 3.
        loss_weight (float): Factor of this loss, the paper's lambda. Defaults to 1.0.
        use_sigmoid (bool): Use the sigmoid instead of the softmax; always so for logits with one channel. The paper
            uses the softmax here, even with a main loss with ``use_sigmoid=True``. Defaults to False.
        ignore_policy (str): ``'exclude'`` or ``'as_background'``. Defaults to 'exclude'.
        class_weight (list[float] | str, optional): Factor of each class, or a file with them.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_cpg'.
        implementation (str): 'auto', 'sparse', 'dense' or 'triton', see :func:`mmseg_cpg.ops.cpg_loss`. 'auto' logs a
            warning if it falls back to 'sparse' on CUDA because the Triton kernels failed their check; 'triton' raises
            that error. Defaults to 'auto'.
    """

    family = 'CPG losses'
    target_type = BoundaryTargets
    stack_targets = staticmethod(stack_targets)
    transform = 'mmseg_cpg.BoundaryMaskFromLabel'

    def __init__(
        self,
        ksize: int = 3,
        loss_weight: float = 1.0,
        use_sigmoid: bool = False,
        ignore_policy: str = 'exclude',
        class_weight: list[float] | str | None = None,
        reduction: str = 'mean',
        loss_name: str = 'loss_cpg',
        implementation: str = 'auto',
    ) -> None:
        super().__init__(loss_weight, loss_name, reduction, class_weight)
        CPGOptions(ksize, ignore_policy=ignore_policy, use_sigmoid=use_sigmoid)  # checks them
        check_implementation(implementation)
        self.ksize = ksize
        self.implementation = implementation
        self.use_sigmoid = use_sigmoid
        self.ignore_policy = ignore_policy
        self._logged_choice: Choice | None = None
        self._warned_empty = False
        self._empty_batches = ZeroStreak()

    @classmethod
    def transform_options(cls, losses: Sequence[tuple[dict, int]]) -> dict[str, Any]:
        """Kernel sizes, ``ignore_index`` and void policy of :class:`~mmseg_cpg.BoundaryMaskFromLabel`."""
        ignored = {(loss.get('ignore_policy', 'exclude'), ignore_index) for loss, ignore_index in losses}
        ignore_policy, ignore_index = only(ignored, 'ignore_policy and ignore_index in all CPG losses')
        ksizes = sorted({loss.get('ksize', 3) for loss, _ in losses})
        return dict(ksize=ksizes, ignore_index=ignore_index, ignore_policy=ignore_policy)

    @classmethod
    def uses_targets(cls, options: Mapping[str, Any]) -> bool:
        """Whether the implementation can be 'sparse', the only one that uses them."""
        return options.get('implementation', 'auto') in ('auto', 'sparse')

    @classmethod
    def describe_targets(cls, targets: Sequence[BoundaryTargets]) -> str:
        """Describe the targets for the log."""
        return f'{super().describe_targets(targets)}, of ksize {", ".join(map(str, sorted(t.ksize for t in targets)))}'

    def compute(self, logits: Tensor, label: Tensor, *, ignore_index: int, **options: Any) -> Tensor:
        implementation = self._choose_implementation(logits, ignore_index)
        loss = cpg_loss(
            logits,
            label,
            self.ksize,
            ignore_index=ignore_index,
            ignore_policy=self.ignore_policy,
            use_sigmoid=self.use_sigmoid,
            class_weight=self._class_weight_for(logits),
            targets=None if implementation == 'triton' else self._targets(label, ignore_index),
            implementation=implementation,
            **options,
        )
        self._watch_for_empty_batches(loss, logits.shape[1], ignore_index)
        return loss

    @torch.compiler.disable
    def _choose_implementation(self, logits: Tensor, ignore_index: int) -> str:
        """Name of the implementation to run, logged when it changes."""
        choice = choose_implementation(logits, self._options(logits, ignore_index), self.implementation)
        return self._log_choice(choice)

    def _options(self, logits: Tensor, ignore_index: int) -> CPGOptions:
        return CPGOptions(self.ksize, ignore_index, self.ignore_policy, self.use_sigmoid or logits.shape[1] == 1)

    def _log_choice(self, choice: Choice) -> str:
        """Log the implementation when it changes; return its name."""
        if choice != self._logged_choice:
            self._logged_choice = choice
            message = f"{self.title} runs its '{choice.name}' implementation: {choice.reason}."
            if choice.name == 'triton' and self.precomputed:
                message += ' It does not use boundaries precomputed while loading.'
            print_log(message, logger='current', level=logging.WARNING if choice.is_fallback else logging.INFO)
        return choice.name

    @torch.compiler.disable
    def _targets(self, label: Tensor, ignore_index: int) -> BoundaryTargets | None:
        """The precomputed targets that match, if any."""
        needed = (tuple(label.shape), self.ksize, ignore_index, self.ignore_policy)
        return self._take_precomputed(needed, 'label shape, ksize, ignore_index, ignore_policy')

    @torch.compiler.disable
    def _watch_for_empty_batches(self, loss: Tensor, num_channels: int, ignore_index: int) -> None:
        if self.ignore_policy == 'exclude' and not self._warned_empty:
            length = self._empty_batches.update(loss)
            if length >= _EMPTY_BATCHES_BEFORE_WARNING:
                self._warned_empty = True
                case, advice = 'outlines objects or takes the place of a class', ''
                if num_channels <= 2:
                    case = 'outlines objects'
                    advice = (
                        f'If {ignore_index}, which is void here, marks the class, replace it with 1 in the labels. '
                    )
                warnings.warn(
                    f'CPGLoss was 0 for {length} consecutive batches (no boundary pixels). {advice}'
                    f"If void {case}, ignore_policy='as_background' keeps its edges.",
                    stacklevel=2,
                )
