"""Command-line arguments that the tools share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from mmengine.config import DictAction


def make_config_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every tool that reads a config."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. model.backbone.depth=18 or key="[(a,b),(c,d)]" '
        '(with the quotation marks, without white space)',
    )
    return parser


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that train and test share."""
    parser = make_config_parser(description)
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='job launcher (default: none)'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add ``--resume`` to the parser of a tool that trains."""
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='checkpoint to resume from; without a value, the newest readable one in the work dir',
    )


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add ``--gpus`` to the parser of a tool that starts trainings."""
    parser.add_argument('--gpus', type=int, default=1, help='number of GPUs of each training (default: %(default)s)')
    parser.set_defaults(launcher='none', local_rank=0)  # this process starts the distributed ones


def parse_args(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, and set ``LOCAL_RANK`` as MMEngine expects it."""
    try:
        args = parser.parse_args(argv)
    except ValueError:  # DictAction's, for a pair without '='
        parser.error('--cfg-options takes KEY=VALUE pairs')
    if args.launcher == 'slurm':
        args.local_rank = os.environ.get('SLURM_LOCALID', args.local_rank)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
