"""Pixels by image and class, counted once and stored next to the labels."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from ..label_values import count_values, find_loading_step, map_with_progress, values_after_loading


def pixel_counts(dataset: BaseSegDataset) -> np.ndarray:
    """Count the pixels of each class in each label of a dataset.

    The counts are cached in :func:`counts_file` for files with the same name, size and modification time. If the cache
    cannot be written, the files are read again next time.

    Args:
        dataset (BaseSegDataset): With ``LoadAnnotations`` in its pipeline.

    Returns:
        np.ndarray: (N, C) of int64. Void is not counted.

    Raises:
        ValueError: The pipeline has no ``LoadAnnotations``, or a label cannot be read as one channel of 8 bits.
    """
    step = find_loading_step(dataset)
    if step is None:
        raise ValueError('counting the pixels of each class needs LoadAnnotations in the pipeline')
    folder = Path(dataset.data_prefix['seg_map_path'])
    paths = [dataset.get_data_info(index)['seg_map_path'] for index in range(len(dataset))]
    keys = list(map_with_progress(partial(_key, folder), paths, f'Looking for changes in {folder}'))
    known = _load(counts_file(dataset))
    unread = {key: path for key, path in zip(keys, paths, strict=True) if key not in known}
    if unread:
        print_log(f"Reading {len(unread):,} labels in '{folder}' to count the pixels of each class.", 'current')
        count = partial(count_values, step=step)
        read = map_with_progress(count, [*unread.values()], f'Counting classes in {folder}')
        known.update(zip(unread, read, strict=True))
    histograms = np.stack([known[key] for key in keys])
    if unread:
        _save(counts_file(dataset), keys, histograms)
    counts = np.zeros((len(paths), len(dataset.metainfo['classes'])), np.int64)
    for value, class_id in enumerate(values_after_loading(dataset)):
        if class_id < counts.shape[1]:
            counts[:, class_id] += histograms[:, value]
    return counts


def counts_file(dataset: BaseSegDataset) -> Path:
    """Return the cache file of a dataset's counts: ``<label folder>_label_values.npz``."""
    folder = Path(dataset.data_prefix['seg_map_path'])
    return folder.with_name(f'{folder.name}_label_values.npz')


def _key(folder: Path, path: str) -> tuple[str, int, int]:
    """Return the key of a label in the cache: its path in the folder, size in bytes and modification time in ns."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise ValueError(f"label '{path}' cannot be read ({error})") from error
    return Path(path).relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns


def _load(cache: Path) -> dict[tuple[str, int, int], np.ndarray]:
    """Return the cached histograms by key."""
    try:
        with np.load(cache) as stored:
            keys = zip(*(stored[name].tolist() for name in ('names', 'sizes', 'times')), strict=True)
            return dict(zip(keys, stored['histograms'], strict=True))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):  # missing, or not what _save writes
        return {}


def _save(cache: Path, keys: Sequence[tuple[str, int, int]], histograms: np.ndarray) -> None:
    names, sizes, times = zip(*keys, strict=True)
    partial_file = cache.with_suffix(f'.{os.getpid()}.npz')
    try:
        np.savez_compressed(partial_file, names=names, sizes=sizes, times=times, histograms=histograms)
        partial_file.replace(cache)
    except OSError as error:
        print_log(f"Cannot write the counts to '{cache}' ({error}): labels are read again next time.", 'current')
