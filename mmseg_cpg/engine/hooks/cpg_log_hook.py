from __future__ import annotations

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import HOOKS
from torch import Tensor

from mmseg_cpg.models.losses import CPGLoss, CrossEntropyCPGLoss
from mmseg_cpg.ops import boundary_targets

# A scalar of the message hub, so that it is smoothed and resumed like the losses; its prefix keeps it out of the log.
_UNLOGGED = 'cpg_log_hook/unlogged_loss'


@HOOKS.register_module()
class CPGLogHook(Hook):
    """Log the CPG losses' share of the total loss and the share of boundary pixels.

    ``cpg_share`` is in [0, 1] if no loss is negative, and smoothed like the losses logged with it.
    ``boundary_share_ksize3`` (one for each kernel size), in [0, 1], is the share of boundary pixels among all pixels of
    the labels as loaded, including void but not padding. If losses of one kernel size differ in void policy, the last
    one is used. In distributed training both describe the batch of the first process, like the losses.

    Both are computed only when ``LoggerHook`` logs, from values and labels on the CPU, and are not part of the loss.
    Only the CPG loss in a ``CrossEntropyCPGLoss`` among other losses, which is not logged, is fetched each time.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._options: dict[int, dict] = {}
        self._fused: list[CrossEntropyCPGLoss] = []

    def before_train(self, runner: Runner) -> None:
        """Look up the model's CPG losses."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        heads = [module for module in model.modules() if isinstance(module, BaseDecodeHead)]
        losses = [(head, loss) for head in heads for loss in head.modules() if isinstance(loss, CPGLoss)]
        self._names = {loss.loss_name for _, loss in losses if 'loss' in loss.loss_name}
        self._options = {
            loss.ksize: dict(ignore_index=head.ignore_index, ignore_policy=loss.ignore_policy) for head, loss in losses
        }
        self._fused = [loss for head in heads for loss in head.modules() if isinstance(loss, CrossEntropyCPGLoss)]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log the shares whenever losses are logged."""
        if not self._options or not is_main_process():
            return
        hub = runner.message_hub
        unlogged = [loss.cpg_value for loss in self._fused if loss.cpg_value is not None]
        if unlogged:
            hub.update_scalar(_UNLOGGED, sum(unlogged))
        if not self._is_logged(runner, batch_idx):
            return
        assert data_batch is not None and outputs is not None  # the train loop passes both
        window = runner.log_processor.window_size
        # RuntimeInfoHook, which comes first, has fetched all losses from the device.
        parts = [hub.get_scalar(f'train/{key}').mean(window) for key in outputs if key.split('.')[-1] in self._names]
        if unlogged:
            parts.append(hub.get_scalar(_UNLOGGED).mean(window))
        total = hub.get_scalar('train/loss').mean(window)
        hub.update_scalar('train/cpg_share', sum(parts) / total if total else 0.0)
        labels = [sample.gt_sem_seg.data for sample in data_batch['data_samples']]
        for ksize, options in self._options.items():
            hub.update_scalar(f'train/boundary_share_ksize{ksize}', _boundary_share(labels, ksize, options))

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        return any(
            self.every_n_inner_iters(batch_idx, logger.interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            for logger in loggers
        )


def _boundary_share(labels: list[Tensor], ksize: int, options: dict) -> float:
    """The share of boundary pixels among those of labels, (1, H, W) each."""
    masks = [boundary_targets(label, ksize, **options).mask() for label in labels]
    return torch.cat([mask.flatten() for mask in masks]).float().mean().item()
