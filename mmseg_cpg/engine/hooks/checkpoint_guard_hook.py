from __future__ import annotations

import os.path as osp
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner


class CheckpointGuardHook(Hook):
    """Keep a checkpoint from running code and from deleting files that do not belong to the run.

    A checkpoint contains a config, which MMEngine executes on resuming, and the paths and numbers of earlier
    checkpoints, which MMEngine deletes as the run continues.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove harmful entries of a checkpoint."""
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)  # MMEngine itself writes another key
        hub = checkpoint.get('message_hub')
        info = hub.get('runtime_info') if isinstance(hub, dict) else None
        if isinstance(info, dict):
            folders = _checkpoint_folders(runner)
            for key in [key for key in info if not _is_harmless(key, info[key], folders)]:
                del info[key]


def _checkpoint_folders(runner: Runner) -> set[str]:
    """The folders in which this run saves checkpoints."""
    parents = {hook.out_dir for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.out_dir}
    name = osp.basename(osp.abspath(runner.work_dir))
    # CheckpointHook adds the name of the work dir when training starts.
    return {runner.work_dir, *parents, *(osp.join(parent, name) for parent in parents)}


def _is_harmless(key: str, value: Any, folders: set[str]) -> bool:
    """Whether the files that an entry makes ``CheckpointHook`` delete are in the run's own folders."""
    if not isinstance(key, str):
        return False
    if key == 'keep_ckpt_ids':  # numbers, which are inserted in file names
        return isinstance(value, list) and all(type(step) is int for step in value)
    if key.startswith('best_ckpt'):
        own = {osp.realpath(folder) for folder in folders}
        is_path = isinstance(value, str) and osp.basename(value).startswith('best_')
        return value is None or (is_path and not osp.isdir(value) and osp.realpath(osp.dirname(value)) in own)
    return True
