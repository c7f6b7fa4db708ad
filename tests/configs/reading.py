"""The configs of the repository, each read once for all tests."""

from copy import deepcopy
from functools import cache
from pathlib import Path

from mmengine.config import Config

CONFIGS = Path(__file__).parents[2] / 'configs'
ABL = sorted(CONFIGS.glob('abl/*.py'))
CPG = sorted(CONFIGS.glob('cpg/*.py'))
CPG_STOCK = sorted(CONFIGS.glob('cpg_stock/*.py'))
GRADNET = sorted(CONFIGS.glob('gradnet/*.py'))
LOCALLY_ADAPTIVE = sorted(CONFIGS.glob('locally_adaptive/*.py'))
SEMEDA = sorted(CONFIGS.glob('semeda/*.py'))
ALL = [*ABL, *CPG, *CPG_STOCK, *GRADNET, *LOCALLY_ADAPTIVE, *SEMEDA]

read = cache(Config.fromfile)


def load(path):
    """Return a copy of a config, which a test may change."""
    return deepcopy(read(path))


def plain(value):
    """Return a config value without the scope marks that ``mmseg::`` inheritance leaves."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def decode_heads(model):
    """Return the decode heads of a model's config, the final one last."""
    return model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]


def header_of(path):
    """Return the comment lines a config starts with, joined."""
    lines = path.read_text(encoding='utf-8').splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith('#'))
    return ' '.join(line[1:].strip() for line in lines[:end])
