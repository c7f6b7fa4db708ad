"""Builds the runner of a config."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..engine.atomic_backend import write_atomically
from ..engine.hooks.checkpoint_guard_hook import CheckpointGuardHook
from ..engine.runner import CPURunner
from ..engine.safe_unpickling import allow_training_logs
from ..engine.sample_checks import check_samples
from ..engine.skipped_drawings import skip_failed_drawings
from .checkpoint import fitting
from .errors import UserError, building, user_errors

# A runner builds the model when it is created, and the rest of the config in these methods, when it starts.
BUILDING_METHODS = (
    'build_train_loop',
    'build_val_loop',
    'build_test_loop',
    'build_optim_wrapper',
    'build_param_scheduler',
    '_init_model_weights',
)


def build_runner(cfg: Config, remarks: Sequence[str] = ()) -> Runner:
    """Build the runner of a config, able to load training checkpoints and to run on CPU.

    Args:
        remarks: Warnings for the start of the log, one line each.

    Raises:
        UserError: The launcher cannot run here, or a part of the config cannot be built. The runner also raises it when
            it builds the rest of the config, when a hook rejects the config or a metric an image, and when a checkpoint
            cannot be resumed.
    """
    allow_training_logs()
    write_atomically()
    require_launcher(cfg.launcher)
    with building():
        if 'runner_type' in cfg:
            runner = RUNNERS.build(cfg)
        elif cfg.launcher != 'none' and not torch.cuda.is_available():
            runner = CPURunner.from_cfg(cfg)
        else:
            runner = Runner.from_cfg(cfg)
    for remark in remarks:
        runner.logger.warning(remark)
    for name in BUILDING_METHODS:
        setattr(runner, name, building()(getattr(runner, name)))
    runner.load_or_resume = fitting(cfg.get('load_from'))(runner.load_or_resume)
    build_evaluator, call_hook = runner.build_evaluator, runner.call_hook

    def build_checked_evaluator(config: Any) -> Evaluator:
        evaluator = build_evaluator(config)
        evaluator.process = user_errors()(evaluator.process)  # a metric names the image that it cannot evaluate
        return evaluator

    def call_hook_checked(stage: str, **kwargs: Any) -> None:
        if stage in ('before_run', 'before_train'):  # when hooks look at what they are attached to
            with user_errors():
                call_hook(stage, **kwargs)
        else:
            call_hook(stage, **kwargs)

    runner.build_evaluator, runner.call_hook = build_checked_evaluator, call_hook_checked
    runner.register_hook(CheckpointGuardHook())
    skip_failed_drawings(runner)
    check_samples(runner)
    return runner


def require_launcher(launcher: str) -> None:
    """Check that the processes of a distributed run can start.

    Raises:
        UserError: ``--launcher pytorch`` was not started by torchrun or ``--launcher slurm`` not by srun, a launcher
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
            f'{os.environ["LOCAL_WORLD_SIZE"]} processes need one GPU each, but there are only '
            f'{torch.cuda.device_count()} GPUs.'
        )
