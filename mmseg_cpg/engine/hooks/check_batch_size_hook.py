from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class CheckBatchSizeHook(Hook):
    """Say in one line of the log that a run's total batch is not the one that its learning rate was chosen for.

    That one is ``auto_scale_lr.base_batch_size``; the run's is GPUs × ``train_dataloader.batch_size`` ×
    ``optim_wrapper.accumulative_counts``. With ``auto_scale_lr.enable`` MMEngine scales the learning rate and says so
    itself.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare the two."""
        auto_scale_lr = runner.auto_scale_lr or {}
        expected = auto_scale_lr.get('base_batch_size')
        images = runner.train_dataloader.batch_size  # None where a batch sampler decides
        if expected is None or images is None or auto_scale_lr.get('enable'):
            return
        steps = runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1)
        total = runner.world_size * images * steps
        if total != expected:
            factors, product = 'GPUs x images', f'{runner.world_size} x {images}'
            if steps > 1:
                factors, product = f'{factors} x accumulated steps', f'{product} x {steps}'
            runner.logger.warning(
                f'The recipe is for a total batch of {expected}, but this run has {factors} = {product} = {total}. '
                'Change train_dataloader.batch_size or the number of GPUs, or set auto_scale_lr.enable=True, which '
                'scales the learning rate.'
            )
