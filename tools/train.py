#!/usr/bin/env python
"""Train a segmentor: MMSegmentation's ``tools/train.py`` with this package registered."""

import bootstrap  # noqa: F401, I001  before everything that imports the stack

from argparse import ArgumentParser
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.device import get_device

from mmseg_cpg import fuse_losses, precompute_boundaries
from mmseg_cpg.cli.checkpoint import require_checkpoint
from mmseg_cpg.cli.config import load_config, require_keys
from mmseg_cpg.cli.errors import UserError, one_line_errors, user_errors
from mmseg_cpg.cli.parser import add_resume, make_parser, parse_args
from mmseg_cpg.cli.progress import train_with_progress
from mmseg_cpg.cli.require_data import require_data
from mmseg_cpg.cli.resume import resume_from
from mmseg_cpg.cli.runner import build_runner
from mmseg_cpg.cli.running import RESUME, running
from mmseg_cpg.config_nodes import builds, type_text
from mmseg_cpg.engine.runner import shut_down_distributed
from mmseg_cpg.precompute import require_boundary_target_hook


def build_parser() -> ArgumentParser:
    parser = make_parser('Train a segmentor.')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG_NAME)')
    add_resume(parser)
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the total batch size over the config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument(
        '--precompute-boundaries',
        action='store_true',
        help='precompute boundary targets of CPG and Active Boundary losses in the data loader (losses unchanged)',
    )
    parser.add_argument(
        '--fuse-losses',
        action='store_true',
        help='compute CrossEntropyLoss and CPGLoss in one pass over the logits (losses unchanged)',
    )
    parser.add_argument(
        '--progress', action='store_true', help='show a progress bar; the log goes to WORK_DIR/train.log'
    )
    return parser


def enable_amp(cfg: Config) -> None:
    """Change ``cfg.optim_wrapper`` to ``AmpOptimWrapper``."""
    wrapper = cfg.optim_wrapper
    wrapper.setdefault('type', 'OptimWrapper')
    if builds(wrapper, 'OptimWrapper'):
        wrapper.type = 'AmpOptimWrapper'
        wrapper.loss_scale = 'dynamic'
    elif not builds(wrapper, 'AmpOptimWrapper'):
        name = type_text(wrapper)
        raise UserError(f"--amp replaces an optim_wrapper of type 'OptimWrapper', but the config has '{name}'.")


def enable_auto_scale_lr(cfg: Config) -> None:
    """Enable ``cfg.auto_scale_lr``."""
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError(
            '--auto-scale-lr needs the total batch size that the learning rate is for: add, for example, '
            'auto_scale_lr = dict(base_batch_size=16) to the config.'
        )
    cfg.auto_scale_lr.enable = True


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(build_parser(), argv)
    with one_line_errors():
        cfg = load_config(args)
        require_keys(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
        if args.amp:
            enable_amp(cfg)
        if builds(cfg.optim_wrapper, 'AmpOptimWrapper') and get_device() == 'cpu':
            raise UserError('Mixed precision (--amp, AmpOptimWrapper) needs a GPU, and none is available here.')
        if args.auto_scale_lr:
            enable_auto_scale_lr(cfg)
        with user_errors():
            if args.fuse_losses:
                fuse_losses(cfg)
            if args.precompute_boundaries:
                precompute_boundaries(cfg)
            require_boundary_target_hook(cfg)
        resume = args.resume or (cfg.get('resume') and (cfg.get('load_from') or 'auto'))
        remarks = resume_from(cfg, resume) if resume else []
        require_checkpoint(cfg.get('load_from'))
        require_data(cfg, 'train_dataloader', 'val_dataloader')
        with running(cfg, RESUME):
            if args.progress:
                train_with_progress(cfg, remarks)
            else:
                build_runner(cfg, remarks).train()
        shut_down_distributed()


if __name__ == '__main__':
    main()
