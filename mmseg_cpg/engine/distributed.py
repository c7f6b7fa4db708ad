"""Distributed runs, on machines without a GPU as well."""

import logging
import os
import sys

import torch
from mmengine.dist import barrier, is_distributed
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner

from ..cli.errors import UserError


class CPURunner(Runner):
    """A runner whose processes train on CPU: gloo instead of NCCL, no device ids, BN instead of SyncBN."""

    def setup_env(self, env_cfg):
        if not is_distributed():
            torch.distributed.init_process_group('gloo')
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg, model):
        self.logger.info(
            'No GPU is available: the processes train on CPU through gloo, and SyncBN layers, which need a GPU, '
            'are turned into BN layers.'
        )
        if model_wrapper_cfg is None:
            find_unused_parameters = self.cfg.get('find_unused_parameters', False)
            model_wrapper_cfg = {'broadcast_buffers': False, 'find_unused_parameters': find_unused_parameters}
        return super().wrap_model({**model_wrapper_cfg, 'device_ids': None}, revert_sync_batchnorm(model))


def leave_together():
    """End a distributed run in step: under gloo a process aborts if a peer hangs up while it still listens.

    A gloo process ends here and now: it also aborts, rarely, if a thread of gloo's still lets go of something of
    Python's while Python shuts down.
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


def require_launcher(launcher):
    """Check that the processes of a distributed run can start.

    Raises:
        UserError: If ``--launcher pytorch`` was not started by torchrun or ``--launcher slurm`` not by srun, a launcher
            other than pytorch finds no GPU, or a node has fewer GPUs than processes.
    """
    if launcher == 'none':
        return
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UserError(
            '--launcher pytorch needs the environment that torchrun sets: use tools/dist_train.sh or dist_test.sh.'
        )
    if launcher == 'slurm' and 'SLURM_PROCID' not in os.environ:
        raise UserError(
            '--launcher slurm needs the environment that srun sets: use tools/slurm_train.sh or slurm_test.sh.'
        )
    if not torch.cuda.is_available():
        if launcher != 'pytorch':
            raise UserError(f'--launcher {launcher} needs GPUs, and none is available; on CPU use --launcher pytorch.')
    elif launcher == 'pytorch' and int(os.environ['LOCAL_RANK']) >= torch.cuda.device_count():
        raise UserError(
            f'{os.environ["LOCAL_WORLD_SIZE"]} processes were asked for, one for each GPU, '
            f'but there are only {torch.cuda.device_count()} GPUs.'
        )
