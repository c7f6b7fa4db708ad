from __future__ import annotations

import math
from numbers import Real
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from mmseg_cpg.ops._validation import check_number


@HOOKS.register_module()
class LossWeightHook(Hook):
    """Ramp the weight of a loss linearly during training, e.g. from 0 to its value in the config.

    In iteration t, counted from 0, the weight is ``loss_weight`` of the config times

    - ``start_factor`` up to iteration ``begin``,
    - ``start_factor + (end_factor - start_factor) * (t - begin) / (end - begin)`` from there to ``end``,
    - ``end_factor`` from then on,

    as with MMEngine's ``LinearParamScheduler``. It depends only on the iteration, so a resumed training continues the
    ramp. It is logged as ``LOSS_NAME_weight``.

    Args:
        loss_name: ``loss_name`` of the loss. The hook changes all losses of this name in the model, including those of
            auxiliary heads; to exclude one, give it another ``loss_name``.
        start_factor: Factor at the beginning, at least 0.
        end_factor: Factor at the end, at least 0.
        begin: First iteration of the ramp, or epoch with ``by_epoch``.
        end: Last iteration or epoch of the ramp. Defaults to the end of training.
        by_epoch: Count epochs, and change the weight once per epoch.

    Raises:
        TypeError: A factor, begin or end is no number.
        ValueError: One of them is negative or not finite, or, when training starts, no loss has this name, a loss of
            this name has no number as ``loss_weight``, or the ramp ends before it begins.

    Example:
        >>> custom_hooks = [dict(type='mmseg_cpg.LossWeightHook', loss_name='loss_cpg', end=8000)]
    """

    def __init__(
        self,
        loss_name: str,
        start_factor: float = 0.0,
        end_factor: float = 1.0,
        begin: int = 0,
        end: int | None = None,
        by_epoch: bool = False,
    ) -> None:
        numbers = dict(start_factor=start_factor, end_factor=end_factor, begin=begin)
        for name, value in (numbers if end is None else numbers | dict(end=end)).items():
            check_number(name, value, 'a finite number >= 0', lambda number: 0 <= number < math.inf)
        self.loss_name = loss_name
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.begin = begin
        self.end = end
        self.by_epoch = by_epoch
        self._losses: list[tuple[Any, float]] = []

    def before_train(self, runner: Runner) -> None:
        """Look up the losses and their weights."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        named = [module for module in model.modules() if isinstance(getattr(module, 'loss_name', None), str)]
        losses = [module for module in named if module.loss_name == self.loss_name]
        if not losses:
            names = ', '.join(sorted({module.loss_name for module in named})) or 'none'
            raise ValueError(f"LossWeightHook: no loss is called '{self.loss_name}'; the model's are {names}")
        for loss in losses:
            if not isinstance(getattr(loss, 'loss_weight', None), Real):
                raise ValueError(f'LossWeightHook: {type(loss).__name__} has no number as loss_weight')
        end = runner.max_epochs if self.by_epoch else runner.max_iters
        self._end = end if self.end is None else self.end
        if self._end <= self.begin:
            raise ValueError(f'LossWeightHook: end must be greater than begin = {self.begin}, got {self._end}')
        self._losses = [(loss, loss.loss_weight) for loss in losses]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Set the weight for this iteration."""
        factor = self.factor(runner.epoch if self.by_epoch else runner.iter)
        for loss, weight in self._losses:
            loss.loss_weight = factor * weight
        runner.message_hub.update_scalar(f'train/{self.loss_name}_weight', self._losses[0][0].loss_weight)

    def after_train(self, runner: Runner) -> None:
        """Restore the weights of the config."""
        for loss, weight in self._losses:
            loss.loss_weight = weight
        self._losses = []

    def factor(self, progress: int) -> float:
        """The factor of the weight after a number of iterations or epochs."""
        done = min(max((progress - self.begin) / (self._end - self.begin), 0.0), 1.0)
        return self.start_factor + (self.end_factor - self.start_factor) * done
