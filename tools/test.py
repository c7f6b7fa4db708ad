#!/usr/bin/env python
"""Test a segmentor: MMSegmentation's ``tools/test.py`` with this package registered."""

import bootstrap  # noqa: F401, I001  before everything that imports the stack

import inspect
from argparse import ArgumentParser
from collections.abc import Sequence

from mmengine.config import Config
from mmseg.registry import METRICS

from mmseg_cpg.cli.checkpoint import require_checkpoint
from mmseg_cpg.cli.config import load_config, require_keys
from mmseg_cpg.cli.errors import UserError, one_line_errors
from mmseg_cpg.cli.parser import make_parser, parse_args
from mmseg_cpg.cli.require_data import datasets_of, require_data
from mmseg_cpg.cli.runner import build_runner
from mmseg_cpg.cli.running import require_writable, running
from mmseg_cpg.config_nodes import class_of
from mmseg_cpg.engine.runner import shut_down_distributed


def build_parser() -> ArgumentParser:
    parser = make_parser('Test (and evaluate) a segmentor.')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for the log and the metrics (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--out', metavar='DIR', help='save the predicted label maps in this folder')
    parser.add_argument('--show-dir', metavar='DIR', help='save prediction overlays in this folder')
    parser.add_argument('--show', action='store_true', help='show prediction overlays')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each overlay (default: 2)')
    parser.add_argument('--tta', action='store_true', help="test with the config's test-time augmentation")
    return parser


def draw_predictions(cfg: Config, show_dir: str | None, show: bool, wait_time: float) -> None:
    """Enable the visualization hook for every image, unless the config sets its interval."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None or 'visualizer' not in cfg:
        raise UserError(
            '--show and --show-dir need a visualizer and '
            "default_hooks = dict(visualization=dict(type='SegVisualizationHook')) in the config."
        )
    hook.draw = True
    hook.setdefault('interval', 1)
    if show:
        hook.update(show=True, wait_time=wait_time)
    if show_dir:
        require_writable(show_dir, '--show-dir')
        cfg.visualizer.save_dir = show_dir


def augment_tests(cfg: Config) -> None:
    """Replace model and pipeline by the config's ``tta_model`` and ``tta_pipeline``."""
    require_keys(cfg, 'tta_model', 'tta_pipeline')
    for dataset in datasets_of(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline
    cfg.tta_model.module = cfg.model
    cfg.model = cfg.tta_model


def save_predictions(cfg: Config, out: str) -> None:
    """Enable saving in the metrics that can save label maps."""
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    saved = False
    for metric in metrics:
        metric_class = class_of(metric, METRICS)
        options = inspect.signature(metric_class).parameters if metric_class else ()
        if 'output_dir' in options:
            metric.output_dir = out
            saved = True
        if 'keep_results' in options:
            metric.keep_results = True
    if not saved:
        raise UserError('--out needs a test_evaluator that saves label maps, such as IoUMetric.')
    require_writable(out, '--out')  # in every process: IoUMetric creates it in one, without a barrier


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(build_parser(), argv)
    with one_line_errors():
        cfg = load_config(args)
        require_keys(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
        require_checkpoint(args.checkpoint)
        cfg.load_from = args.checkpoint
        cfg.resume = False
        if args.show or args.show_dir:
            draw_predictions(cfg, args.show_dir, args.show, args.wait_time)
        if args.tta:
            augment_tests(cfg)
        if args.out:
            save_predictions(cfg, args.out)
        require_data(cfg, 'test_dataloader')
        with running(cfg):
            build_runner(cfg).test()
        shut_down_distributed()


if __name__ == '__main__':
    main()
