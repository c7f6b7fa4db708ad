"""Matches configs with the paper's experiments and lists deviations."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from textwrap import shorten
from typing import Any, NamedTuple

from ..config_nodes import builds, cpg_losses, dicts, final_head, losses_of, type_name
from ..precompute import precomputable_losses
from . import paper
from .work_dirs import length_of

DATASETS = {'CityscapesDataset': paper.CITYSCAPES, 'ADE20KDataset': paper.ADE20K, 'COCOStuffDataset': paper.COCO_STUFF}
# Parts of a config that determine the result of training.
TRAINING = (
    *('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'),
    *('custom_hooks', 'val_dataloader', 'val_evaluator'),
)
# Hooks that affect neither training nor its costs.
OBSERVERS = {'CPGLogHook', 'BoundaryVisualizationHook'}
# Hooks that do not affect the result, though perhaps what a record contains: time and memory.
NEUTRAL = {'BoundaryTargetHook', 'PeakMemoryHook', 'CheckBatchSizeHook'}
# Settings of data loading that do not affect results.
LOADING = {'data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'val_interval'}


class Experiment(NamedTuple):
    """A setting of the paper's tables; ``ksize`` and ``loss_weight`` are 0 without CPG loss."""

    network: str
    dataset: str
    ksize: int
    loss_weight: float
    rmi: bool

    def __str__(self) -> str:
        losses = [paper.RECIPES[self.network, self.dataset].main_loss, *(['RMI'] if self.rmi else [])]
        losses += [f'CPG{self.ksize} (λ = {self.loss_weight:g})'] if self.ksize else []
        return f'{self.network}, {self.dataset}, {" + ".join(losses)}'


def identify(cfg: Any) -> Experiment:
    """Find the experiment of a config.

    Raises:
        ValueError: The paper has no such experiment; the message names the difference.
    """
    if 'model' not in cfg or cfg.get('val_dataloader') is None:
        raise ValueError('no model or no validation data')
    head = final_head(cfg.model)
    losses = _separate(losses_of(head))
    names = sorted(type_name(loss) for loss in losses)
    cpg = [loss for loss in losses if builds(loss, 'CPGLoss')]
    if set(names) - {'CrossEntropyLoss', 'CPGLoss', 'RMILoss'} or len(set(names)) < len(names):
        raise ValueError(f'its losses are {", ".join(names)}')
    if 'CrossEntropyLoss' not in names:
        raise ValueError('no CrossEntropyLoss in the final head')
    if len(list(cpg_losses(cfg.model))) > len(cpg):
        raise ValueError('CPGLoss outside the final head')
    loss_weight = float(cpg[0].get('loss_weight', 1.0)) if cpg else 0.0
    ksize = cpg[0].get('ksize', 3) if loss_weight else 0
    return Experiment(
        _network(cfg.model, head), _dataset(cfg.val_dataloader.dataset), ksize, loss_weight, 'RMILoss' in names
    )


def _network(model: Any, head: Any) -> str:
    backbone: Any = model.get('backbone') or {}
    if builds(head, 'ASPPHead') and type_name(backbone).startswith('ResNetV1') and backbone.get('depth') == 50:
        return paper.DEEPLABV3
    if builds(head, 'LRASPPHead') and builds(backbone, 'MobileNetV3') and backbone.get('arch') == 'large':
        return paper.LRASPP
    if builds(head, 'OCRHead') and builds(backbone, 'HRNet') and tuple(backbone.extra.stage2.num_channels) == (48, 96):
        return paper.OCRNET
    raise ValueError(f'its network is {type_name(backbone)} + {type_name(head)}')


def _dataset(dataset: Any) -> str:
    name = DATASETS.get(type_name(dataset))
    # The 10k and the 164k images of COCO-Stuff are one class in MMSegmentation.
    if name is None or (name == paper.COCO_STUFF and '2014' not in dataset.data_prefix.img_path):
        raise ValueError(f'its data are {type_name(dataset)}, {(dataset.get("data_prefix") or {}).get("img_path")}')
    return name


def deviations(cfg: Any, experiment: Experiment, num_gpus: int | None) -> list[str]:
    """List the fields in which a config differs from the paper's recipe.

    Args:
        cfg: A complete config.
        experiment: Its experiment.
        num_gpus: Number of processes; None to skip the total batch size.

    Returns:
        For example ``['40 epochs (recipe: 175 epochs)']``. Compares length, learning rate, crop, total batch size, main
        loss, void policy, and weight and preset of RMI.
    """
    recipe = paper.RECIPES[experiment.network, experiment.dataset]
    unit, total = length_of(cfg)
    losses = losses_of(final_head(cfg.model))
    main_loss = next(node for node in dicts(losses) if builds(node, 'CrossEntropyLoss'))
    loader, optim_wrapper = cfg.get('train_dataloader') or {}, cfg.get('optim_wrapper') or {}
    crop = next((node.crop_size for node in dicts(loader) if builds(node, 'RandomCrop')), ())
    compared = [
        ('{}', f'{total} {unit}s', f'{recipe.epochs} epochs'),
        ('lr {}', (optim_wrapper.get('optimizer') or {}).get('lr'), recipe.lr),
        ('crop {}', _size(crop), _size(recipe.crop)),
        ('main loss {}', 'BCE' if main_loss.get('use_sigmoid') else 'CE', recipe.main_loss),
    ]
    images = loader.get('batch_size')
    if num_gpus is not None and images is not None:
        batch = num_gpus * images * optim_wrapper.get('accumulative_counts', 1)
        compared.append(('total batch {}', batch, recipe.total_batch))
    policies = {loss.get('ignore_policy', 'exclude') for loss, _ in cpg_losses(cfg.model)}
    compared += [('void policy {}', policy, 'as_background') for policy in policies]
    for loss in dicts(losses):
        if builds(loss, 'RMILoss'):
            compared.append(('RMI weight {}', loss.get('loss_weight', 1.0), paper.RMI_LOSS_WEIGHT))
            compared.append(('RMI preset {}', loss.get('preset', 'official'), 'official'))
    return [f'{name.format(here)} (recipe: {there})' for name, here, there in compared if here != there]


def _size(crop: Any) -> str:
    return '×'.join(map(str, crop)) or 'none'


def training_part(cfg: Any) -> dict[str, Any]:
    """The part of a config that determines the result of training, as plain dicts, lists and numbers.

    It is the same with and without what leaves the losses unchanged: fusing them, their order, computing boundary
    targets while loading, and hooks that observe.
    """
    transforms = {type_name(dict(type=kind.transform)) for kind in precomputable_losses()}
    return _without_switches(training_settings(cfg), NEUTRAL | transforms)


def _without_switches(node: Any, neutral: Collection[str]) -> Any:
    """A plain part of a config without hooks and transforms of the given names, and with separate, sorted losses."""
    if isinstance(node, list):
        return [_without_switches(child, neutral) for child in node if type_name(child) not in neutral]
    if not isinstance(node, dict):
        return node
    if node.get('loss_decode'):
        node = {**node, 'loss_decode': sorted(_separate(losses_of(node)), key=type_name)}
    return {key: _without_switches(child, neutral) for key, child in node.items()}


def _separate(losses: list[Any]) -> list[Any]:
    """The losses, with both parts of each fused one in its place."""
    parts = []
    for loss in losses:
        parts += [loss['cross_entropy'], loss['cpg']] if builds(loss, 'CrossEntropyCPGLoss') else [loss]
    return parts


def training_settings(cfg: Any) -> dict[str, Any]:
    """The part of a config that determines the result of training and its costs, as plain dicts, lists and numbers."""
    cfg = cfg.to_dict()  # names classes and functions of pure Python configs
    part = {key: plain(cfg.get(key), LOADING) for key in TRAINING}
    part['custom_hooks'] = [hook for hook in part['custom_hooks'] or [] if type_name(hook) not in OBSERVERS]
    return part


def plain(node: Any, without: Collection[str] = ()) -> Any:
    """Convert a part of a config for JSON, without the given keys at any depth."""
    if isinstance(node, dict):
        return {str(key): plain(child, without) for key, child in node.items() if key not in without}
    if isinstance(node, (list, tuple)):
        return [plain(child, without) for child in node]
    return node if isinstance(node, (str, int, float, bool, type(None))) else str(node)


def differences(first: Any, second: Any, path: str = '') -> Iterator[str]:
    """Yield each difference of two nested plain values, e.g. ``'train_cfg.max_epochs: 175, 40'``."""
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        first, second = dict(enumerate(first)), dict(enumerate(second))
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from differences(first.get(key), second.get(key), f'{path}.{key}' if path else str(key))
    elif first != second:
        yield f'{path}: ' + ', '.join(shorten(str(value), 60) for value in (first, second))
