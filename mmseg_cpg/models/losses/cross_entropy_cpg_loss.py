from __future__ import annotations

from typing import Any

import torch
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_cpg.config_nodes import builds
from mmseg_cpg.ops import cross_entropy_cpg_loss
from mmseg_cpg.ops._validation import check_label, check_logits
from mmseg_cpg.ops.cpg.implementations import choose_fused_implementation

from .base import ClassWeighted, read_class_weight
from .cpg_loss import CPGLoss


@MODELS.register_module()
class CrossEntropyCPGLoss(nn.ModuleList):
    """``CrossEntropyLoss`` and ``CPGLoss`` in one pass over the logits: the same total and gradient.

    Use it as the only loss of a head: ``loss_decode=dict(type='CrossEntropyCPGLoss', cross_entropy=..., cpg=...)``.
    MMSegmentation's heads log one value for each module of a list, so this is a list of two modules, and both parts
    keep their names in the log. The first one computes everything, and its value carries the gradient of both. As one
    of several entries of ``loss_decode`` it is logged as a whole, as ``loss_ce_cpg``.

    Args:
        cross_entropy (dict): Config of MMSegmentation's ``CrossEntropyLoss``, without ``use_mask``.
        cpg (dict): Config of :class:`CPGLoss`, without ``use_sigmoid``. Its ``implementation`` is that of
            :func:`mmseg_cpg.ops.cross_entropy_cpg_loss`: 'auto', 'sparse' or 'triton'.

    Raises:
        TypeError: An option has the wrong type or is unknown.
        ValueError: A config is of another loss or has an option that this loss does not support.

    Attributes:
        cpg_value (Tensor | None): The CPG loss in the last total, which is not in the log, for ``CPGLogHook``.
    """

    def __init__(self, cross_entropy: dict, cpg: dict) -> None:
        cpg_part = _CPGPart(**_options(cpg, 'CPGLoss'))
        ce_part = _CrossEntropyPart(cpg_part, **_options(cross_entropy, 'CrossEntropyLoss'))
        if cpg_part.use_sigmoid:
            raise ValueError('use_sigmoid of the CPG loss must be False: the fused loss computes the softmax only')
        if cpg_part.implementation not in ('auto', 'sparse', 'triton'):
            raise ValueError(
                f"implementation of the CPG loss must be 'auto', 'sparse' or 'triton', got {cpg_part.implementation!r}"
            )
        if ce_part.use_mask:
            raise ValueError('use_mask must be False: mask cross-entropy has no pixel-wise labels')
        if ce_part.reduction != cpg_part.reduction:
            raise ValueError(
                f'both losses must have the same reduction, got {ce_part.reduction!r} and {cpg_part.reduction!r}'
            )
        for loss in (ce_part, cpg_part):
            if 'loss' not in loss.loss_name:
                raise ValueError(
                    f"loss_name must contain 'loss', or it is not part of the total, got {loss.loss_name!r}"
                )
        super().__init__([ce_part, cpg_part])
        self.cpg_value: Tensor | None = None

    @property
    def loss_name(self) -> str:
        return 'loss_ce_cpg'

    def forward(self, *args: Any, **options: Any) -> Tensor:
        """The total. Arguments are those of :meth:`CPGLoss.forward`."""
        cross_entropy, cpg = (loss(*args, **options) for loss in self)
        self.cpg_value = cpg.detach().mean()
        return cross_entropy + cpg


class _CPGPart(CPGLoss):
    """Stores the options of the CPG loss and returns the value that :class:`_CrossEntropyPart` computed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.value: Tensor | None = None

    @property
    def title(self) -> str:
        return 'CrossEntropyCPGLoss'

    @torch.compiler.disable
    def choose_implementation(self, logits: Tensor, ignore_index: int, use_sigmoid: bool, reduction: str) -> str:
        """Name of the implementation that computes both losses, logged when it changes."""
        options = self._options(logits, ignore_index)
        choice = choose_fused_implementation(logits, options, use_sigmoid, reduction, self.implementation)
        return self._log_choice(choice)

    def forward(self, pred: Tensor, *_: Any, ignore_index: int = 255, **__: Any) -> Tensor:
        value, self.value = self.value, None
        if value is None:
            raise RuntimeError('the cross-entropy of a CrossEntropyCPGLoss must be called before its CPG loss')
        if self.loss_weight:
            self._watch_for_empty_batches(value, pred.shape[1], ignore_index)
        return value


class _CrossEntropyPart(ClassWeighted, CrossEntropyLoss):
    """Computes both losses. Returns the value of the cross-entropy, with the gradient of the total."""

    def __init__(self, cpg: _CPGPart, class_weight: Any = None, **options: Any) -> None:
        super().__init__(**options)  # without the class weights, since MMSegmentation would unpickle a file of them
        self.class_weight = read_class_weight(class_weight)
        self._cpg = [cpg]  # in a list, so that it is not registered as a submodule a second time

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        (cpg,) = self._cpg
        check_logits(cls_score, check_label(label))
        reduction = reduction_override or self.reduction
        implementation = cpg.choose_implementation(cls_score, ignore_index, self.use_sigmoid, reduction)
        total, cross_entropy, cpg.value = cross_entropy_cpg_loss(
            cls_score,
            label,
            cpg.ksize,
            ce_weight=self.loss_weight,
            cpg_weight=cpg.loss_weight,
            use_sigmoid=self.use_sigmoid,
            ignore_index=ignore_index,
            ignore_policy=cpg.ignore_policy,
            weight=weight,
            class_weight=self._class_weight_for(cls_score),
            cpg_class_weight=cpg._class_weight_for(cls_score),
            avg_non_ignore=self.avg_non_ignore,
            avg_factor=avg_factor,
            reduction=reduction,
            targets=None if implementation == 'triton' else cpg._targets(label, ignore_index),
            implementation=implementation,
        )
        return _WithGradientOf.apply(cross_entropy, total)


class _WithGradientOf(torch.autograd.Function):
    """The first value, with the gradient of the second, also where both are infinite."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, _total: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad


def _options(config: dict, name: str) -> dict:
    """The options in a config of the named loss."""
    if not builds(config, name):
        raise ValueError(f"expected a config of type '{name}', got {config!r}")
    # As MMEngine's registries do, without the scope in which to look up the type.
    return {key: value for key, value in config.items() if key not in ('type', '_scope_')}
