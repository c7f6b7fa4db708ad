"""Adds boundary targets that the data loader computes to a config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from .config_nodes import dicts, losses, type_name
from .models.losses.precomputable import PrecomputableLoss


def precompute_boundaries(cfg: Config | ConfigDict) -> None:
    """Add ``BoundaryTargetHook`` and the transforms that compute boundary targets to a config.

    For CPG losses the transform is ``BoundaryMaskFromLabel``, for Active Boundary losses ``BoundaryDistanceFromLabel``.
    Kernel sizes, void policy, ``ignore_index`` and padded size are those of the config. Transforms and hooks that are
    already present are kept.

    ``tools/train.py --precompute-boundaries`` calls this. For other tools, a config can call it::

        _base_ = './ocrnet_hr48_cocostuff_cpg7.py'
        from mmseg_cpg import precompute_boundaries

        precompute_boundaries(_base_)

    Args:
        cfg: A config whose model uses a :class:`~mmseg_cpg.models.losses.precomputable.PrecomputableLoss`; modified in
            place.

    Raises:
        ValueError: The model uses none, or only with options that ignore the targets, its losses differ in void policy
            or ``ignore_index``, or the training pipeline has no ``PackSegInputs``.
    """
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    padding = dict(pad_size=preprocessor.get('size'), seg_pad_val=preprocessor.get('seg_pad_val', 255))
    if preprocessor.get('size_divisor') is not None:
        padding['size_divisor'] = preprocessor['size_divisor']
    transforms = {}
    for kind in precomputable_losses():
        found = [each for each in losses(cfg.model, kind.__name__) if kind.uses_targets(each[0])]
        if found:
            options = kind.transform_options(found)
            transforms[kind.transform] = dict(type=kind.transform, **options, **padding)
    if not transforms:
        names = ', '.join(kind.__name__ for kind in precomputable_losses())
        raise ValueError(
            f'precomputing boundaries needs one of the losses {names} in the config, and options that use them'
        )
    owners = _pipelines_with(cfg, 'PackSegInputs')
    if not owners:
        raise ValueError('precomputing boundaries needs PackSegInputs in the training pipeline')
    for owner in owners:
        missing = [each for name, each in transforms.items() if not _find(owner.pipeline, name)]
        place = owner.pipeline.index(_find(owner.pipeline, 'PackSegInputs')) + 1
        # A new list: other loaders may share the old one.
        owner.pipeline = [*owner.pipeline[:place], *missing, *owner.pipeline[place:]]
    hooks = cfg.get('custom_hooks') or []
    if not _find(hooks, 'BoundaryTargetHook'):
        cfg.custom_hooks = [*hooks, dict(type='mmseg_cpg.BoundaryTargetHook')]


def require_boundary_target_hook(cfg: Config | ConfigDict) -> None:
    """Check that boundary targets computed in the data loader reach the losses.

    Raises:
        ValueError: The training pipeline computes targets, but the config has no ``BoundaryTargetHook``.
    """
    hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    for kind in precomputable_losses():
        if _pipelines_with(cfg, kind.transform) and not _find(hooks, 'BoundaryTargetHook'):
            raise ValueError(
                f'the training pipeline has {kind.transform}, but no BoundaryTargetHook passes its result to the '
                "losses: add dict(type='mmseg_cpg.BoundaryTargetHook') to custom_hooks"
            )


def precomputable_losses() -> list[type[PrecomputableLoss]]:
    """All loss classes whose targets a transform can compute, including those of other packages."""
    kinds = _subclasses(PrecomputableLoss)  # type: ignore[type-abstract]
    return [kind for kind in kinds if not kind.__name__.startswith('_')]


def _subclasses(kind: type[PrecomputableLoss]) -> Iterator[type[PrecomputableLoss]]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)


def _pipelines_with(cfg: Config | ConfigDict, kind: str) -> list[Any]:
    """The training datasets whose own pipeline has a transform of this type."""
    return [node for node in dicts(cfg.train_dataloader.dataset) if _find(node.get('pipeline'), kind)]


def _find(nodes: Any, kind: str) -> Any:
    """The first config that builds a class, named with or without its module."""
    return next((node for node in nodes or () if type_name(node) == type_name(dict(type=kind))), None)
