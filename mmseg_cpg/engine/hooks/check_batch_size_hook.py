from __future__ import annotations

import math

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class CheckBatchSizeHook(Hook):
    """Warn if the effective batch size differs from ``auto_scale_lr.base_batch_size``.

    The effective batch size is GPUs × ``train_dataloader.batch_size`` × ``optim_wrapper.accumulative_counts``. With
    ``auto_scale_lr.enable``, MMEngine scales the learning rate and logs it, and this hook does nothing.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare the batch sizes."""
        auto_scale_lr = runner.auto_scale_lr or {}
        expected = auto_scale_lr.get('base_batch_size')
        images = runner.train_dataloader.batch_size  # None with a batch sampler
        if expected is None or images is None or auto_scale_lr.get('enable'):
            return
        factors = {'GPUs': runner.world_size, 'images': images}
        accumulated = runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1)
        if accumulated > 1:
            factors['accumulated steps'] = accumulated
        total = math.prod(factors.values())
        if total != expected:
            runner.logger.warning(
                f'The learning rate is for a total batch size of {expected}, but this run has {" x ".join(factors)} = '
                f'{" x ".join(map(str, factors.values()))} = {total}. Change train_dataloader.batch_size or the number '
                'of GPUs, or set auto_scale_lr.enable=True to scale the learning rate.'
            )
