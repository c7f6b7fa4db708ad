"""Pixels by image and class, counted once and kept beside the labels."""

from __future__ import annotations

import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from ..label_values import count_values, find_loading_step, map_with_progress, values_after_loading


def pixel_counts(dataset: BaseSegDataset) -> np.ndarray:
    """Count the pixels of each class in each label of a dataset.

    What the label files hold is kept in ``<label folder>_label_values.npz`` and used again for the same list of files;
    if it cannot be written there, the files are read again next time. Whoever changes labels must delete it.

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
    cache = folder.with_name(f'{folder.name}_label_values.npz')
    names = np.array([Path(path).relative_to(folder).as_posix() for path in paths])
    histograms = _load(cache, names)
    if histograms is None:
        print_log(f"Reading the labels in '{folder}' once to count the pixels of each class.", 'current')
        histograms = np.stack(
            list(map_with_progress(partial(count_values, step=step), paths, f'Counting classes in {folder}'))
        )
        _save(cache, names, histograms)
    counts = np.zeros((len(paths), len(dataset.metainfo['classes'])), np.int64)
    for value, category in enumerate(values_after_loading(dataset)):
        if category < counts.shape[1]:
            counts[:, category] += histograms[:, value]
    return counts


def _load(cache, names):
    try:
        with np.load(cache) as stored:
            return stored['histograms'] if np.array_equal(stored['names'], names) else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):  # missing, or not what _save writes
        return None


def _save(cache, names, histograms):
    partial_file = cache.with_suffix(f'.{os.getpid()}.npz')
    try:
        np.savez_compressed(partial_file, names=names, histograms=histograms)
        partial_file.replace(cache)
    except OSError as error:
        print_log(f"The counts could not be kept in '{cache}' ({error}): labels are read again next time.", 'current')
