#!/usr/bin/env python
"""Train the edge network of a SEMEDA loss on the labels of a segmentor's config, without reading images."""

import bootstrap  # noqa: F401, I001  before everything that imports the stack

import math
import os.path as osp
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from torch.utils.data import DataLoader

from mmseg_cpg.cli.checkpoint import require_checkpoint
from mmseg_cpg.cli.config import apply_command_line, read_config
from mmseg_cpg.cli.edge_training import edge_network_config
from mmseg_cpg.cli.errors import one_line_errors, user_errors
from mmseg_cpg.cli.parser import add_resume, make_parser, parse_args
from mmseg_cpg.cli.require_data import require_data
from mmseg_cpg.cli.resume import resume_from
from mmseg_cpg.cli.runner import build_runner
from mmseg_cpg.cli.running import RESUME, running
from mmseg_cpg.engine.runner import shut_down_distributed
from mmseg_cpg.models.edge_network import FILE_NAME, save_edge_network

NUM_LABELS = 8  # to scale the features with


def build_parser() -> ArgumentParser:
    parser = make_parser("Train an edge network on the labels of a segmentor's config, for its SEMEDA loss.")
    parser.add_argument(
        '--work-dir',
        help=f'folder for {FILE_NAME}, logs and checkpoints (default: work_dirs/CONFIG_NAME_edge_network)',
    )
    add_resume(parser)
    return parser


def some_labels(loader: DataLoader) -> Any:
    """Return a batch of labels spread over the dataset of a loader, whose sampler cannot be restarted."""
    dataset: Any = loader.dataset
    return loader.collate_fn([dataset[index] for index in range(len(dataset))[:: math.ceil(len(dataset) / NUM_LABELS)]])


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(build_parser(), argv)
    with one_line_errors():
        if args.work_dir is None:
            name = osp.splitext(osp.basename(args.config))[0]
            args.work_dir = osp.join('work_dirs', f'{name}_edge_network')
        cfg = edge_network_config(read_config(args.config))
        apply_command_line(cfg, args)
        resume = args.resume or (cfg.get('resume') and (cfg.get('load_from') or 'auto'))
        remarks = resume_from(cfg, resume) if resume else []
        require_checkpoint(cfg.get('load_from'))
        require_data(cfg, 'train_dataloader', 'val_dataloader')
        with running(cfg, RESUME):
            runner = build_runner(cfg, remarks)
            model = runner.train()
            if is_main_process():
                network = model.module if is_model_wrapper(model) else model
                batch = network.data_preprocessor(some_labels(runner.train_dataloader), True)
                with user_errors():
                    network.scale_features(batch['data_samples'])
                path = osp.join(cfg.work_dir, FILE_NAME)
                save_edge_network(network, path)
                runner.logger.info(f"For a SEMEDA loss: dict(type='mmseg_cpg.SEMEDALoss', checkpoint='{path}')")
        shut_down_distributed()


if __name__ == '__main__':
    main()
