"""Switching a config to boundary targets that are made while loading."""

from .errors import UserError
from .parts import builds, cpg_losses, dicts


def precompute_boundaries(cfg):
    """Add ``BoundaryMaskFromLabel`` to a config's training pipeline and ``BoundaryTargetHook`` to its hooks.

    Kernel sizes, void policy, ``ignore_index`` and padded size are those of the config; what it has already stays.

    ``tools/train.py --precompute-boundaries`` calls this. So may a config, with what it inherits, for any other tool::

        _base_ = './ocrnet_hr48_cocostuff_cpg7.py'
        from mmseg_cpg.utils.precompute import precompute_boundaries

        precompute_boundaries(_base_)

    Args:
        cfg (Config | ConfigDict): A config whose model uses CPGLoss; changed in place.

    Raises:
        UserError: If it uses none, or some that differ in void policy or ``ignore_index``, or its training pipeline has
            no ``PackSegInputs``.
    """
    losses = list(cpg_losses(cfg.model))
    if not losses:
        raise UserError('Precomputing boundaries is for configs with a CPGLoss, and this one has none.')
    ignored = {(loss.get('ignore_policy', 'exclude'), ignore_index) for loss, ignore_index in losses}
    if len(ignored) > 1:
        raise UserError(
            'Precomputing boundaries needs one ignore_policy and ignore_index in all CPG losses, '
            f'but the config has {", ".join(map(str, sorted(ignored)))}.'
        )
    ((ignore_policy, ignore_index),) = ignored
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    transform = dict(
        type='mmseg_cpg.BoundaryMaskFromLabel',
        ksize=sorted({loss.get('ksize', 3) for loss, _ in losses}),
        ignore_index=ignore_index,
        ignore_policy=ignore_policy,
        pad_size=preprocessor.get('size'),
        seg_pad_val=preprocessor.get('seg_pad_val', 255),
    )
    owners = _pipelines_with(cfg, 'PackSegInputs')
    if not owners:
        raise UserError('Precomputing boundaries needs PackSegInputs in the training pipeline, after which it works.')
    for owner in owners:
        if not _find(owner.pipeline, 'BoundaryMaskFromLabel'):
            place = owner.pipeline.index(_find(owner.pipeline, 'PackSegInputs')) + 1
            # A new list: other loaders may share the old one.
            owner.pipeline = [*owner.pipeline[:place], transform, *owner.pipeline[place:]]
    hooks = cfg.get('custom_hooks') or []
    if not _find(hooks, 'BoundaryTargetHook'):
        cfg.custom_hooks = [*hooks, dict(type='mmseg_cpg.BoundaryTargetHook')]


def require_boundary_target_hook(cfg):
    """Check that boundaries made while loading reach the losses.

    Raises:
        UserError: If the training pipeline has ``BoundaryMaskFromLabel`` and the config no ``BoundaryTargetHook``.
    """
    hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    if _pipelines_with(cfg, 'BoundaryMaskFromLabel') and not _find(hooks, 'BoundaryTargetHook'):
        raise UserError(
            'The training pipeline has BoundaryMaskFromLabel, but custom_hooks has no BoundaryTargetHook, which hands '
            "its boundaries to the CPG losses. Add dict(type='mmseg_cpg.BoundaryTargetHook') to custom_hooks."
        )


def _pipelines_with(cfg, name):
    """The training datasets whose own pipeline has a transform of that name."""
    return [node for node in dicts(cfg.train_dataloader.dataset) if _find(node.get('pipeline'), name)]


def _find(nodes, name):
    return next((node for node in nodes or () if builds(node, name)), None)
