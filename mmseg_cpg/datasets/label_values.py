"""Values of label files, before and after ``LoadAnnotations``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations
from mmseg.datasets import BaseSegDataset
from PIL import Image
from rich.console import Console
from rich.progress import track


def find_loading_step(dataset: BaseSegDataset) -> LoadAnnotations | None:
    """Return the ``LoadAnnotations`` of a dataset's pipeline, None if it has none."""
    return next((step for step in dataset.pipeline.transforms if isinstance(step, LoadAnnotations)), None)


def find_image_step(dataset: BaseSegDataset) -> BaseTransform | None:
    """Return what loads the image in a dataset's pipeline, None if nothing is known to."""
    steps = (step for step in dataset.pipeline.transforms if not isinstance(step, LoadAnnotations))
    return next((step for step in steps if type(step).__name__.startswith('Load')), None)


def read_image(path: str, step: BaseTransform) -> np.ndarray:
    """Read an image file as the pipeline's step does: (H, W, C) of any dtype.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        return step(dict(img_path=path))['img']
    except Exception as error:  # the readers that may be behind the step have many kinds
        raise ValueError(f"image '{path}' cannot be read ({_line(error)})") from error


def read_label(path: str, step: LoadAnnotations) -> np.ndarray:
    """Read a label file as ``LoadAnnotations`` does, before it changes values: (H, W) of any dtype.

    Raises:
        ValueError: The file cannot be read, or has several channels.
    """
    try:
        label = mmcv.imread(path, flag='unchanged', backend=step.imdecode_backend)
    except Exception as error:  # the readers that may be behind mmcv have many kinds
        raise ValueError(f"label '{path}' cannot be read ({_line(error)})") from error
    if label is None:
        raise ValueError(f"label '{path}' cannot be read")
    label = label[..., 0] if label.ndim == 3 and label.shape[-1] == 1 else label
    if label.ndim != 2:
        raise ValueError(f"label '{path}' has {label.shape[-1]} channels instead of one")
    return label


def _line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def count_values(path: str, step: LoadAnnotations) -> np.ndarray:
    """Count how often each value occurs in a label file, as ``LoadAnnotations`` reads it and before it changes any.

    Args:
        path (str): A file of one channel and at most 2**24 pixels.
        step (LoadAnnotations): What reads it in the pipeline.

    Returns:
        np.ndarray: (256,) of int32.

    Raises:
        ValueError: The file cannot be read, has several channels, or has values that are not whole or do not fit 8
            bits.
    """
    label = read_label(path, step)
    if label.dtype != np.uint8 and not 0 <= label.min() <= label.max() <= 255:
        raise ValueError(f"label '{path}' has values from {label.min()} to {label.max()}, which do not fit 8 bits")
    if label.dtype.kind == 'f' and (label != np.trunc(label)).any():
        raise ValueError(f"label '{path}' has the value {label[label != np.trunc(label)][0]}, which is no class id")
    # Unlike np.bincount this lets other threads run; its counts are float32.
    return cv2.calcHist([label.astype(np.uint8)], [0], None, [256], [0, 256]).ravel().astype(np.int32)


def values_after_loading(dataset: BaseSegDataset) -> np.ndarray:
    """Find what each value of a label file is for the model, after ``reduce_zero_label`` and ``label_map``.

    The pipeline's own ``LoadAnnotations`` is run on a file that contains all 256 values.

    Args:
        dataset (BaseSegDataset): With ``LoadAnnotations`` in its pipeline.

    Returns:
        np.ndarray: (256,) of uint8, indexed by the file's value.
    """
    step = find_loading_step(dataset)
    assert step is not None, 'the pipeline has LoadAnnotations'
    with tempfile.TemporaryDirectory() as folder:
        suffix = 'tif' if step.imdecode_backend == 'tifffile' else 'png'
        path = str(Path(folder, f'values.{suffix}'))
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
        info = dict(
            seg_map_path=path,
            label_map=dataset.label_map,
            reduce_zero_label=dataset.reduce_zero_label,
            seg_fields=[],
        )
        return step(info)['gt_seg_map'].reshape(256)


def map_with_progress(function: Callable, items: Sequence, description: str) -> Iterable:
    """Call a function that reads a file for each item, in threads (decoding frees the GIL).

    Progress is shown on a terminal and kept out of logs.

    Yields:
        The results, in the items' order.
    """
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with ThreadPoolExecutor() as pool:
        yield from track(
            pool.map(function, items), description, total=len(items), console=console, transient=True, disable=hidden
        )
