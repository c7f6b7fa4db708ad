"""Checks that the data of a config exist, before anything is built."""

from __future__ import annotations

import inspect
import os
import os.path as osp
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config
from mmseg.registry import DATASETS

from ..config_nodes import class_of, type_text
from ..datasets.files import list_files
from .errors import UserError


def datasets_of(dataset: Any) -> Iterator[Any]:
    """Yield the datasets that a dataset config wraps, or itself if it wraps none."""
    wrapped = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else None)
    if wrapped is None:
        yield dataset
    else:
        for inner in wrapped:
            yield from datasets_of(inner)


def require_data(cfg: Config, *loaders: str) -> None:
    """Check that the folders, the annotation file and the images of every dataset exist.

    Args:
        cfg: The config.
        loaders: Names of data loaders. Those not in the config are skipped, as are data on remote storage.

    Raises:
        UserError: A path is missing; the message names the first one and its data loader.
    """
    for loader in loaders:
        if cfg.get(loader) is not None:
            for dataset in datasets_of(cfg[loader].dataset):
                if (dataset.get('backend_args') or {}).get('backend', 'local') == 'local':
                    _require_dataset(dataset, loader)


def _require_dataset(dataset: Any, loader: str) -> None:
    root = dataset.get('data_root') or ''
    source = f'{loader}, {type_text(dataset)}'
    if root:
        _require(osp.isdir, root, 'Dataset folder', source, f'or set {loader}.dataset.data_root')
    prefixes = {key: osp.join(root, prefix) for key, prefix in (dataset.get('data_prefix') or {}).items() if prefix}
    for key, folder in prefixes.items():
        _require(osp.isdir, folder, 'Dataset folder', source, f'or set data_root and data_prefix.{key}')
    if dataset.get('ann_file'):
        _require(osp.exists, osp.join(root, dataset.ann_file), 'Annotation file', source, 'or set ann_file')
    elif 'img_path' in prefixes:
        _require_images(dataset, prefixes['img_path'], prefixes.get('seg_map_path'), source)


def _require(exists: Callable[[str], bool], path: str, what: str, source: str, alternative: str) -> None:
    if not exists(path):
        where = '' if osp.isabs(path) else f' in the current folder, {os.getcwd()}'
        raise UserError(
            f"{what} '{path}' ({source}) not found{where}. Put it there or link to it, {alternative} (--cfg-options)."
        )


def _require_images(dataset: Any, images: str, labels: str | None, source: str) -> None:
    # InfiniteSampler would loop forever on an empty dataset.
    suffix = _suffix(dataset, 'img_suffix')
    if suffix is None or _contains(images, suffix):
        return
    label_suffix = _suffix(dataset, 'seg_map_suffix')
    swapped = labels and label_suffix and _contains(labels, suffix) and _contains(images, label_suffix)
    advice = f"Is it swapped with '{labels}'?" if swapped else 'Put them there, or set img_suffix.'
    raise UserError(f"No '*{suffix}' images in '{images}' ({source}). {advice}")


def _suffix(dataset: Any, name: str) -> str | None:
    """Return a suffix from a dataset's config or its class, None if neither has it."""
    suffix = dataset.get(name)
    if suffix is None:
        option = inspect.signature(class_of(dataset, DATASETS) or object).parameters.get(name)
        suffix = getattr(option, 'default', None)
    return suffix if isinstance(suffix, str) else None


def _contains(folder: str, suffix: str) -> bool:
    return next(list_files(folder, suffix), None) is not None
