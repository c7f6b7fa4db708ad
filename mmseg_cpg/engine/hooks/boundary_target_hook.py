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

from mmseg_cpg.models.losses.precomputable import PrecomputableLoss
from mmseg_cpg.structures import unpack_boundary


@HOOKS.register_module()
class BoundaryTargetHook(Hook):
    """Hand what ``BoundaryMaskFromLabel`` and ``BoundaryDistanceFromLabel`` made while loading to the model's losses.

    It serves every ``PrecomputableLoss``, which ``CPGLoss`` and ``ActiveBoundaryLoss`` are.
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
        self._told_size = set()
        self._told_source = set()

    def before_train(self, runner: Runner) -> None:
        """Attach to the model."""
        self.after_train(runner)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = []
        for head in (module for module in model.modules() if isinstance(module, BaseDecodeHead)):
            if _takes_label_as_loaded(head):
                losses += _losses(head)
            elif _losses(head):
                families = ' and '.join(sorted({loss.family for loss in _losses(head)}))
                runner.logger.info(
                    f'{type(head).__name__} has a loss_by_feat of its own, which may change the label: '
                    f'its {families} get no precomputed boundaries.'
                )
        kinds = list(dict.fromkeys(map(type, losses)))
        signature = inspect.signature(model.forward)

        def hand_over(model: nn.Module, args: tuple, kwargs: dict) -> None:
            call = signature.bind(*args, **kwargs).arguments
            targets = {}
            if call.get('mode') == 'loss' and model.training and call.get('data_samples'):
                targets = self._targets(runner, model.data_preprocessor, call['data_samples'], kinds)
            for loss in losses:
                loss.precomputed = targets.get(type(loss), ())

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

    def _targets(
        self,
        runner: Runner,
        preprocessor: nn.Module,
        samples: list[SegDataSample],
        kinds: list[type[PrecomputableLoss]],
    ) -> dict[type[PrecomputableLoss], tuple]:
        """The batch's targets by the class of loss that they are for: all that each image has."""
        of_images = [unpack_boundary(each.gt_boundary) if 'gt_boundary' in each else {} for each in samples]
        sizes = {tuple(sample.gt_sem_seg.data.shape[-2:]) for sample in samples}
        augmented = getattr(preprocessor, 'batch_augments', None) is not None
        of_batch = {}
        for kind in kinds:
            made = [{n: t for n, t in each.items() if isinstance(t, kind.target_type)} for each in of_images]
            names = [name for name in made[0] if all(name in each for each in made)]
            targets = [[each[name] for each in made] for name in names if not augmented]
            for each in targets:
                _check_seg_pad_val(preprocessor, kind, each[0].ignore_index)
            shapes = {each.shape for of_name in targets for each in of_name}
            if targets and shapes != sizes:
                self._tell_size(kind, shapes, sizes)
                continue
            of_batch[kind] = tuple(map(kind.stack_targets, targets))
            self._tell_source(runner, kind, of_batch[kind], missing=not any(made))
        return of_batch

    def _tell_source(self, runner: Runner, kind: type[PrecomputableLoss], targets: tuple, missing: bool) -> None:
        if kind in self._told_source or not (targets or missing):
            return
        self._told_source.add(kind)
        if targets:
            runner.logger.info(f'{kind.family} use {kind.describe_targets(targets)}.')
        else:
            runner.logger.warning(
                f'BoundaryTargetHook found nothing made by {kind.transform} in the data samples, so {kind.family} find '
                f'the boundary themselves: put {kind.transform} after PackSegInputs.'
            )

    def _tell_size(
        self, kind: type[PrecomputableLoss], shapes: set[tuple[int, ...]], sizes: set[tuple[int, int]]
    ) -> None:
        if kind not in self._told_size:
            self._told_size.add(kind)
            made_for, padded_to = (', '.join(map(str, sorted(each))) for each in (shapes, sizes))
            warnings.warn(
                f'{kind.family} find the boundary themselves: it was precomputed for labels of {made_for} pixels, but '
                f'the data preprocessor padded them to {padded_to}. Give {kind.transform} that size as pad_size, as a '
                'rule pad_size=crop_size.',
                stacklevel=2,
            )


def _losses(head: nn.Module) -> list[PrecomputableLoss]:
    return [module for module in head.modules() if isinstance(module, PrecomputableLoss)]


def _takes_label_as_loaded(head: BaseDecodeHead) -> bool:
    # PIDHead and STDCHead, say, hand their losses masks made from the label, of the same shape.
    methods = ('loss_by_feat', '_stack_batch_gt')
    return all(getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in methods)


def _check_seg_pad_val(preprocessor: nn.Module, kind: type[PrecomputableLoss], ignore_index: int) -> None:
    seg_pad_val = getattr(preprocessor, 'seg_pad_val', ignore_index)
    if seg_pad_val != ignore_index:
        raise ValueError(
            f"the data preprocessor's seg_pad_val must be {kind.transform}'s ignore_index={ignore_index}, "
            f'got {seg_pad_val}'
        )
