"""Distributed training on CPU with gloo."""

from __future__ import annotations

import logging
import os
import sys

import torch
from mmengine.dist import barrier, is_distributed
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn


class CPURunner(Runner):
    """A runner for distributed training on CPU: gloo instead of NCCL, no device ids, BN instead of SyncBN."""

    def setup_env(self, env_cfg: dict) -> None:
        if not is_distributed():
            torch.distributed.init_process_group('gloo')
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        self.logger.info(
            'No GPU is available: training on CPU with the gloo backend. SyncBN layers, which need a GPU, are replaced '
            'by BN layers.'
        )
        if model_wrapper_cfg is None:
            find_unused_parameters = self.cfg.get('find_unused_parameters', False)
            model_wrapper_cfg = {'broadcast_buffers': False, 'find_unused_parameters': find_unused_parameters}
        return super().wrap_model({**model_wrapper_cfg, 'device_ids': None}, revert_sync_batchnorm(model))


def shut_down_distributed() -> None:
    """End a distributed run in all processes at once, since a gloo process aborts if a peer disconnects early.

    A gloo process exits here without Python's shutdown, which sometimes aborts because a thread of gloo releases a
    Python object.
    """
    if is_distributed():
        barrier()
        on_gloo = torch.distributed.get_backend() == 'gloo'
        torch.distributed.destroy_process_group()
        if on_gloo:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
