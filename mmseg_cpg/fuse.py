"""Switches a config to computing cross-entropy and CPG loss in one pass over the logits."""

from __future__ import annotations

from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS

from .config_nodes import builds, dicts, losses_of, type_name


def fuse_losses(cfg: Config | ConfigDict) -> None:
    """Replace ``CrossEntropyLoss`` and ``CPGLoss`` of a config by ``CrossEntropyCPGLoss``: same losses, less time.

    Heads without a CPG loss are unchanged. ``tools/train.py --fuse-losses`` calls this, and so can a config::

        _base_ = './deeplabv3_r50_cityscapes_cpg3.py'
        from mmseg_cpg import fuse_losses

        fuse_losses(_base_)

    Args:
        cfg: A config with a model; modified in place.

    Raises:
        ValueError: No head has a CPG loss, or a head with one has another main loss or options that
            ``CrossEntropyCPGLoss`` does not support.
    """
    heads = [node for node in dicts(cfg.model) if any(builds(loss, 'CPGLoss') for loss in losses_of(node))]
    if not heads:
        raise ValueError('fusing losses needs a head with a CPGLoss in the config')
    fused = [_fuse(losses_of(head)) for head in heads]
    for head, losses in zip(heads, fused, strict=True):
        head.loss_decode = losses[0] if len(losses) == 1 else losses


def _fuse(losses: list[dict]) -> list[dict]:
    """The losses of a head, with the fused loss first in place of both."""
    parts = {}
    for name in ('CrossEntropyLoss', 'CPGLoss'):
        found = [loss for loss in losses if builds(loss, name)]
        if len(found) != 1:
            names = ', '.join(map(type_name, losses))
            raise ValueError(f'fusing losses needs exactly one {name} in loss_decode, got {names}')
        parts[name] = found[0]
    loss = dict(type='mmseg_cpg.CrossEntropyCPGLoss', cross_entropy=parts['CrossEntropyLoss'], cpg=parts['CPGLoss'])
    try:
        MODELS.build(loss)
    except ValueError as error:
        raise ValueError(f'these losses cannot be fused: {error}') from error
    return [loss, *(other for other in losses if other not in parts.values())]
