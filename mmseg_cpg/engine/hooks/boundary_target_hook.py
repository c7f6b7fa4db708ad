from __future__ import annotations

import inspect
import warnings

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cpg.models.losses import CPGLoss
from mmseg_cpg.ops import BoundaryTargets, stack_targets
from mmseg_cpg.structures import unpack_boundary


@HOOKS.register_module()
class BoundaryTargetHook(Hook):
    """Hand what ``BoundaryMaskFromLabel`` made while loading to the model's CPG losses.

    Targets are taken from the very data samples that a segmentor's forward is called with, and taken back when it
    ends, also by an exception, so they cannot meet the label of another batch. The losses get none, and find the
    boundary themselves, where the segmentor is not training or not computing losses, where ``batch_augments`` change
    labels after loading, in heads that may change the label before the loss sees it, and for labels of another size
    than the targets were made for.

    Raises:
        ValueError: The data preprocessor pads labels with another value than the targets' ``ignore_index``.
    """

    def __init__(self) -> None:
        self._handles = []
        self._told_size = False
        self._told_source = False

    def before_train(self, runner: Runner) -> None:
        """Attach to the model."""
        self.after_train(runner)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        heads = [module for module in model.modules() if isinstance(module, BaseDecodeHead) and _cpg_losses(module)]
        for head in heads:
            if not _takes_label_as_loaded(head):
                runner.logger.info(
                    f'{type(head).__name__} has a loss_by_feat of its own, which may change the label: '
                    'its CPG losses get no precomputed boundaries.'
                )
        losses = [loss for head in heads if _takes_label_as_loaded(head) for loss in _cpg_losses(head)]
        signature = inspect.signature(model.forward)

        def hand_over(model: nn.Module, args: tuple, kwargs: dict) -> None:
            call = signature.bind(*args, **kwargs).arguments
            targets = ()
            if call.get('mode') == 'loss' and model.training:
                targets = self._targets(model, call.get('data_samples'))
                self._tell_source(runner, call.get('data_samples'), targets)
            for loss in losses:
                loss.precomputed = targets

        def take_back(*_) -> None:
            for loss in losses:
                loss.precomputed = ()

        self._handles = [
            model.register_forward_pre_hook(hand_over, with_kwargs=True),
            model.register_forward_hook(take_back, always_call=True),
        ]

    def after_train(self, runner: Runner) -> None:
        """Detach from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _targets(self, model: nn.Module, samples: list[SegDataSample] | None) -> tuple[BoundaryTargets, ...]:
        """The batch's targets, of every kernel size that all images have."""
        preprocessor = model.data_preprocessor
        augmented = getattr(preprocessor, 'batch_augments', None) is not None
        if augmented or not samples or not all('gt_boundary' in each for each in samples):
            return ()
        of_images = [unpack_boundary(sample.gt_boundary) for sample in samples]
        sizes = {tuple(sample.gt_sem_seg.data.shape[-2:]) for sample in samples}
        stacked = []
        for name in of_images[0]:
            targets = [of_image[name] for of_image in of_images if name in of_image]
            if len(targets) < len(samples):
                continue
            _check_seg_pad_val(preprocessor, targets)
            if {each.shape for each in targets} != sizes:
                self._tell_size(targets, sizes)
                return ()
            stacked.append(stack_targets(targets))
        return tuple(stacked)

    def _tell_source(
        self, runner: Runner, samples: list[SegDataSample] | None, targets: tuple[BoundaryTargets, ...]
    ) -> None:
        if self._told_source:
            return
        if targets:
            self._told_source = True
            ksizes = ', '.join(map(str, sorted(each.ksize for each in targets)))
            runner.logger.info(f'CPG losses use boundaries that were found while loading, of ksize {ksizes}.')
        elif samples and not any('gt_boundary' in each for each in samples):
            self._told_source = True
            runner.logger.warning(
                'BoundaryTargetHook found no gt_boundary in the data samples, so CPG losses find the boundary '
                'themselves: put BoundaryMaskFromLabel after PackSegInputs.'
            )

    def _tell_size(self, targets: list[BoundaryTargets], sizes: set[tuple[int, int]]) -> None:
        if not self._told_size:
            self._told_size = True
            made_for, padded_to = (', '.join(map(str, sorted(each))) for each in ({t.shape for t in targets}, sizes))
            warnings.warn(
                f'CPG losses find the boundary themselves: it was precomputed for labels of {made_for} pixels, but the '
                f'data preprocessor padded them to {padded_to}. Give BoundaryMaskFromLabel that size as pad_size, as a '
                'rule pad_size=crop_size.',
                stacklevel=2,
            )


def _cpg_losses(head: nn.Module) -> list[CPGLoss]:
    return [module for module in head.modules() if isinstance(module, CPGLoss)]


def _takes_label_as_loaded(head: BaseDecodeHead) -> bool:
    # PIDHead and STDCHead, say, hand their losses masks made from the label, of the same shape.
    methods = ('loss_by_feat', '_stack_batch_gt')
    return all(getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in methods)


def _check_seg_pad_val(preprocessor: nn.Module, targets: list[BoundaryTargets]) -> None:
    ignore_index = targets[0].ignore_index
    seg_pad_val = getattr(preprocessor, 'seg_pad_val', ignore_index)
    if seg_pad_val != ignore_index:
        raise ValueError(
            f"the data preprocessor's seg_pad_val must be BoundaryMaskFromLabel's ignore_index={ignore_index}, "
            f'got {seg_pad_val}'
        )
