"""Checks of every sample that a runner loads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import Compose
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmseg_cpg.datasets.checked_pipeline import CheckedPipeline

from .hooks.binary_label_hook import BinaryLabelHook

DEFAULT_IGNORE_INDEX = 255


def check_samples(runner: Runner) -> None:
    """Make a runner build its data loaders with :class:`CheckedPipeline` in place of the datasets' pipelines.

    For a binary task it also gets a :class:`BinaryLabelHook`.

    The pipelines must be replaced when the loaders are built, since iteration-based loops start the workers at once.

    Args:
        runner: A runner that has not built its loops yet.
    """
    build = runner.build_dataloader

    def build_checked(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        built = build(dataloader, *args, **kwargs)
        num_classes, ignored_ids = _ids_of(runner, training=dataloader is runner._train_dataloader)
        for dataset in _with_pipeline(built.dataset):
            dataset.pipeline = CheckedPipeline(dataset.pipeline.transforms, num_classes, ignored_ids)
        return built

    runner.build_dataloader = build_checked
    num_classes, ignored_ids = _ids_of(runner, training=True)
    if num_classes == 2:
        runner.register_hook(BinaryLabelHook(ignored_ids[0]))


def _ids_of(runner: Runner, training: bool) -> tuple[int | None, list[int]]:
    """The number of classes of a model, and the ids ignored by its losses (in testing, by metrics too)."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    heads = list(_heads(model))
    # A head with one class has labels 0 and 1.
    num_classes = max((max(head.num_classes, 2) for head in heads), default=None)
    ignored_ids = [head.ignore_index for head in heads]
    if not training:
        for evaluator in (runner._val_evaluator, runner._test_evaluator):
            metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
            ignored_ids += [
                each['ignore_index'] for each in metrics if isinstance(each, dict) and 'ignore_index' in each
            ]
        ignored_ids.append(DEFAULT_IGNORE_INDEX)
    return num_classes, ignored_ids


def _heads(model: nn.Module) -> Iterator[Any]:
    """The modules of a model that define the ids of its labels."""
    for module in model.modules():
        if all(type(getattr(module, name, None)) is int for name in ('num_classes', 'ignore_index')):
            yield module


def _with_pipeline(dataset: Any) -> Iterator[Any]:
    """The datasets that load samples: the dataset itself or those that it wraps."""
    if isinstance(getattr(dataset, 'pipeline', None), Compose):
        yield dataset
    inner = getattr(dataset, 'datasets', None) or ([dataset.dataset] if hasattr(dataset, 'dataset') else [])
    for each in inner:
        yield from _with_pipeline(each)
