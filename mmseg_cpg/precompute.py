"""Switching a config to boundary targets that are made while loading."""

from .config_nodes import builds, cpg_losses, dicts, losses, type_name

_TRANSFORMS = ('BoundaryMaskFromLabel', 'BoundaryDistanceFromLabel')


def precompute_boundaries(cfg):
    """Add what makes targets to a config's training pipeline and ``BoundaryTargetHook`` to its hooks.

    For CPG losses that is ``BoundaryMaskFromLabel``, for Active Boundary losses ``BoundaryDistanceFromLabel``. Kernel
    sizes, void policy, ``ignore_index`` and padded size are those of the config; what it has already stays.

    ``tools/train.py --precompute-boundaries`` calls this. So may a config, with what it inherits, for any other tool::

        _base_ = './ocrnet_hr48_cocostuff_cpg7.py'
        from mmseg_cpg import precompute_boundaries

        precompute_boundaries(_base_)

    Args:
        cfg (Config | ConfigDict): A config whose model uses CPGLoss or ActiveBoundaryLoss; changed in place.

    Raises:
        ValueError: If it uses neither, or some that differ in void policy or ``ignore_index``, or its training pipeline
            has no ``PackSegInputs``.
    """
    transforms = [*_boundary_masks(cfg.model), *_boundary_distances(cfg.model)]
    if not transforms:
        raise ValueError(
            'precomputing boundaries needs a CPGLoss or an ActiveBoundaryLoss in the config, and this one has none'
        )
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    padding = dict(pad_size=preprocessor.get('size'), seg_pad_val=preprocessor.get('seg_pad_val', 255))
    owners = _pipelines_with(cfg, 'PackSegInputs')
    if not owners:
        raise ValueError('precomputing boundaries needs PackSegInputs in the training pipeline')
    for owner in owners:
        missing = [dict(each, **padding) for each in transforms if not _find(owner.pipeline, type_name(each))]
        place = owner.pipeline.index(_find(owner.pipeline, 'PackSegInputs')) + 1
        # A new list: other loaders may share the old one.
        owner.pipeline = [*owner.pipeline[:place], *missing, *owner.pipeline[place:]]
    hooks = cfg.get('custom_hooks') or []
    if not _find(hooks, 'BoundaryTargetHook'):
        cfg.custom_hooks = [*hooks, dict(type='mmseg_cpg.BoundaryTargetHook')]


def _boundary_masks(model):
    """The transform for a model's CPG losses, in a list; none where it has none."""
    found = list(cpg_losses(model))
    if not found:
        return []
    ignored = {(loss.get('ignore_policy', 'exclude'), ignore_index) for loss, ignore_index in found}
    ignore_policy, ignore_index = _only(ignored, 'ignore_policy and ignore_index in all CPG losses')
    ksizes = sorted({loss.get('ksize', 3) for loss, _ in found})
    return [
        dict(
            type='mmseg_cpg.BoundaryMaskFromLabel',
            ksize=ksizes,
            ignore_index=ignore_index,
            ignore_policy=ignore_policy,
        )
    ]


def _boundary_distances(model):
    """The transform for a model's Active Boundary losses, in a list; none where it has none."""
    found = {ignore_index for _, ignore_index in losses(model, 'ActiveBoundaryLoss')}
    if not found:
        return []
    ignore_index = _only(found, 'ignore_index in all Active Boundary losses')
    return [dict(type='mmseg_cpg.BoundaryDistanceFromLabel', ignore_index=ignore_index)]


def _only(values, what):
    if len(values) > 1:
        raise ValueError(f'precomputing boundaries needs one {what}, got {", ".join(map(str, sorted(values)))}')
    (value,) = values
    return value


def require_boundary_target_hook(cfg):
    """Check that boundaries made while loading reach the losses.

    Raises:
        ValueError: If the training pipeline has a transform that makes some and the config no ``BoundaryTargetHook``.
    """
    hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    for name in _TRANSFORMS:
        if _pipelines_with(cfg, name) and not _find(hooks, 'BoundaryTargetHook'):
            raise ValueError(
                f'the training pipeline has {name}, but custom_hooks has no BoundaryTargetHook, which passes its '
                "result to the losses: add dict(type='mmseg_cpg.BoundaryTargetHook') to custom_hooks"
            )


def _pipelines_with(cfg, name):
    """The training datasets whose own pipeline has a transform of that name."""
    return [node for node in dicts(cfg.train_dataloader.dataset) if _find(node.get('pipeline'), name)]


def _find(nodes, name):
    return next((node for node in nodes or () if builds(node, name)), None)
