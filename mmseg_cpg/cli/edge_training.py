"""Derives the config of an edge network from that of a segmentor."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..config_nodes import builds, dicts, final_head
from .config import require_keys
from .errors import UserError

SETTINGS = Path(__file__).parents[1] / '.mim/configs/semeda/_base_/edge_network.py'
# Settings of the environment that both networks share.
SHARED_KEYS = ('default_scope', 'custom_imports', 'env_cfg', 'log_level', 'visualizer', 'randomness')
PADDING_KEYS = ('size', 'size_divisor', 'seg_pad_val')


def edge_network_config(cfg: Config) -> Config:
    """Return the config that trains an ``EdgeNetwork`` on the labels of a segmentor's config.

    Its training settings are those of configs/semeda/_base_/edge_network.py. Number of classes, ``ignore_index``,
    padding, datasets and data loaders are those of the segmentor, with its pipelines from ``LoadAnnotations`` on.

    Args:
        cfg: The segmentor's config, not modified.

    Raises:
        UserError: It has no training data, labels or number of classes.
    """
    require_keys(cfg, 'model', 'train_dataloader')
    edge_cfg = Config.fromfile(SETTINGS)
    head = final_head(cfg.model)
    if 'num_classes' not in (head or {}):
        raise UserError(f"Config '{cfg.filename}' does not set model.decode_head.num_classes.")
    ignore_index = head.get('ignore_index', 255)
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    padding = {key: preprocessor[key] for key in PADDING_KEYS if key in preprocessor}
    # A single logit means two classes, even for heads with num_classes=1.
    edge_cfg.model.update(num_classes=max(head.num_classes, 2), ignore_index=ignore_index)
    edge_cfg.model.data_preprocessor.update(padding)
    edge_cfg.val_evaluator.ignore_index = ignore_index
    edge_cfg.train_dataloader = _of_labels(cfg.train_dataloader)
    if cfg.get('val_dataloader'):
        edge_cfg.val_dataloader = _of_labels(cfg.val_dataloader)
    else:
        for key in ('val_cfg', 'val_evaluator'):
            edge_cfg.pop(key)
    edge_cfg.update({key: cfg[key] for key in SHARED_KEYS if key in cfg})
    return edge_cfg


def _of_labels(loader: Any) -> Any:
    """The config of a data loader without the loading of images."""
    loader = deepcopy(loader)
    owners = [node for node in dicts(loader.dataset) if _place_of_labels(node) is not None]
    if not owners:
        raise UserError('Training an edge network needs labels, but the data pipeline has no LoadAnnotations.')
    for owner in owners:
        # Earlier steps, such as loading the image and in testing resizing it, do not affect the label.
        load, *others = owner.pipeline[_place_of_labels(owner) :]
        owner.pipeline = [load, dict(type='mmseg_cpg.BlankImageFromLabel'), *others]
    return loader


def _place_of_labels(node: Any) -> int | None:
    places = (place for place, each in enumerate(node.get('pipeline') or ()) if builds(each, 'LoadAnnotations'))
    return next(places, None)
