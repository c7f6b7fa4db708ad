from __future__ import annotations

import inspect
import warnings
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import nn
from torch.utils.hooks import RemovableHandle

from mmseg_cpg.models.losses.precomputable import PrecomputableLoss
from mmseg_cpg.structures import Targets, unpack_boundary


@HOOKS.register_module()
class BoundaryTargetHook(Hook):
    """Pass boundary targets that were computed in the data loader to the model's losses.

    It supports every ``PrecomputableLoss``, such as ``CPGLoss`` and ``ActiveBoundaryLoss``. The targets are taken from
    the data samples passed to the segmentor's forward and removed when it returns or raises, so they are never used
    with the label of another batch.

    The losses get no targets, and compute the boundary themselves,

    - if the segmentor is not training or not computing losses,
    - if ``batch_augments`` changes labels after loading,
    - in heads that may change the label before the loss,
    - if they have no use for targets, such as ``ActiveBoundaryLoss(preset='official')``,
    - if the labels have another size than the targets were computed for.

    Raises:
        ValueError: The data preprocessor's ``seg_pad_val`` differs from the targets' ``ignore_index``.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._warned_size: set[type] = set()
        self._logged_source: set[type] = set()

    def before_train(self, runner: Runner) -> None:
        """Attach to the model."""
        self._detach()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = []
        for head in (module for module in model.modules() if isinstance(module, BaseDecodeHead)):
            if _takes_label_as_loaded(head):
                losses += _losses(head)
            elif _losses(head):
                families = ' and '.join(sorted({loss.family for loss in _losses(head)}))
                runner.logger.info(
                    f'{type(head).__name__} overrides loss_by_feat and may change the label: '
                    f'its {families} get no precomputed boundaries.'
                )
        kinds = list(dict.fromkeys(map(type, losses)))
        signature = inspect.signature(model.forward)

        def set_targets(model: Any, args: tuple, kwargs: dict) -> None:
            call = signature.bind(*args, **kwargs).arguments
            samples = call.get('data_samples')
            targets = {}
            if call.get('mode') == 'loss' and model.training and samples:
                targets = self._targets(runner, model.data_preprocessor, samples, kinds)
            for loss in losses:
                loss.precomputed = targets.get(type(loss), ())

        def clear_targets(*_: Any) -> None:
            for loss in losses:
                loss.precomputed = ()

        self._handles = [
            model.register_forward_pre_hook(set_targets, with_kwargs=True),
            model.register_forward_hook(clear_targets, always_call=True),
        ]

    def after_train(self, runner: Runner) -> None:
        """Detach from the model."""
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _targets(
        self,
        runner: Runner,
        preprocessor: nn.Module,
        samples: list[SegDataSample],
        kinds: list[type[PrecomputableLoss]],
    ) -> dict[type[PrecomputableLoss], tuple[Targets, ...]]:
        """The batch's targets, by class of loss: those that all its images have."""
        if getattr(preprocessor, 'batch_augments', None) is not None:
            return {}
        of_images = [unpack_boundary(sample.gt_boundary) if 'gt_boundary' in sample else {} for sample in samples]
        shared = [name for name in of_images[0] if all(name in each for each in of_images)]
        sizes = {tuple(sample.gt_sem_seg.data.shape[-2:]) for sample in samples}
        of_batch = {}
        for kind in kinds:
            names = [name for name in shared if isinstance(of_images[0][name], kind.target_type)]
            if not names:
                if not any(isinstance(targets, kind.target_type) for each in of_images for targets in each.values()):
                    self._log_missing(runner, kind)
                continue
            targets = [[each[name] for each in of_images] for name in names]
            _check_seg_pad_val(preprocessor, kind, targets[0][0].ignore_index)
            shapes = {each.shape for of_name in targets for each in of_name}
            if shapes != sizes:
                self._warn_size(kind, shapes, sizes)
                continue
            of_batch[kind] = tuple(map(kind.stack_targets, targets))
            self._log_use(runner, kind, of_batch[kind])
        return of_batch

    def _log_use(self, runner: Runner, kind: type[PrecomputableLoss], targets: tuple[Targets, ...]) -> None:
        if kind not in self._logged_source:
            self._logged_source.add(kind)
            runner.logger.info(f'{kind.family} use {kind.describe_targets(targets)}.')

    def _log_missing(self, runner: Runner, kind: type[PrecomputableLoss]) -> None:
        if kind not in self._logged_source:
            self._logged_source.add(kind)
            runner.logger.warning(
                f'BoundaryTargetHook found no targets of {kind.transform} in the data samples, so {kind.family} '
                f'compute the boundary themselves: put {kind.transform} after PackSegInputs.'
            )

    def _warn_size(
        self, kind: type[PrecomputableLoss], shapes: set[tuple[int, ...]], sizes: set[tuple[int, ...]]
    ) -> None:
        if kind not in self._warned_size:
            self._warned_size.add(kind)
            computed_for, padded_to = (', '.join(map(str, sorted(each))) for each in (shapes, sizes))
            warnings.warn(
                f'Precomputed boundaries for {kind.family} are ignored: they were computed for labels of '
                f'{computed_for} pixels, but the data preprocessor padded them to {padded_to}. Pass that size to '
                f'{kind.transform} as pad_size, usually pad_size=crop_size.',
                stacklevel=2,
            )


def _losses(head: nn.Module) -> list[PrecomputableLoss]:
    losses = [module for module in head.modules() if isinstance(module, PrecomputableLoss)]
    return [loss for loss in losses if loss.uses_targets(vars(loss))]


def _takes_label_as_loaded(head: BaseDecodeHead) -> bool:
    # PIDHead and STDCHead, for example, pass their losses masks computed from the label, of the same shape.
    methods = ('loss_by_feat', '_stack_batch_gt')
    return all(getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in methods)


def _check_seg_pad_val(preprocessor: nn.Module, kind: type[PrecomputableLoss], ignore_index: int) -> None:
    seg_pad_val = getattr(preprocessor, 'seg_pad_val', ignore_index)
    if seg_pad_val != ignore_index:
        raise ValueError(
            f"the data preprocessor's seg_pad_val must be {kind.transform}'s ignore_index={ignore_index}, "
            f'got {seg_pad_val}'
        )
