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
from mmengine import fileio
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations as SegLoadAnnotations
from PIL import Image
from rich.console import Console
from rich.progress import track


def find_loading_step(dataset: BaseSegDataset) -> LoadAnnotations | None:
    """Return the ``LoadAnnotations`` of a dataset's pipeline, None if it has none."""
    step = next((step for step in dataset.pipeline.transforms if isinstance(step, LoadAnnotations)), None)
    if isinstance(step, SegLoadAnnotations) and step.reduce_zero_label is None:
        step.reduce_zero_label = dataset.reduce_zero_label  # as it does itself when it is first used
    return step


def decodes_itself(step: LoadAnnotations) -> bool:
    """Whether a subclass of ``LoadAnnotations`` reads label files in its own way."""
    return type(step)._load_seg_map not in (LoadAnnotations._load_seg_map, SegLoadAnnotations._load_seg_map)


def find_image_step(dataset: BaseSegDataset) -> BaseTransform | None:
    """Return the step that loads the image in a dataset's pipeline, None if there is none."""
    steps = (step for step in dataset.pipeline.transforms if not isinstance(step, LoadAnnotations))
    return next((step for step in steps if type(step).__name__.startswith('Load')), None)


def read_image(path: str, step: BaseTransform) -> np.ndarray:
    """Read an image file like a step of the pipeline: (H, W, C), any dtype.

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        return step(dict(img_path=path))['img']
    except Exception as error:  # depends on the decoding library
        raise ValueError(f"image '{path}' cannot be read ({_line(error)})") from error


def read_label(path: str, step: LoadAnnotations) -> np.ndarray:
    """Read a label file like ``LoadAnnotations``: (H, W), any dtype.

    The values are those of the file, or of a step that :func:`decodes_itself`.

    Raises:
        ValueError: The file cannot be read, or has several channels.
    """
    try:
        if decodes_itself(step):
            reduces = getattr(step, 'reduce_zero_label', False)
            info: dict = dict(seg_map_path=path, label_map=None, reduce_zero_label=reduces, seg_fields=[])
            label = step(info)['gt_seg_map']
        else:
            content = fileio.get(path, backend_args=step.backend_args)
            label = mmcv.imfrombytes(content, flag='unchanged', backend=step.imdecode_backend)
    except Exception as error:  # depends on the decoding library
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
    """Count the occurrences of each value in a label file, before ``LoadAnnotations`` maps them.

    Args:
        path (str): A file with one channel and at most 2**24 pixels.
        step (LoadAnnotations): The step of the pipeline that reads it.

    Returns:
        np.ndarray: (256,) int32.

    Raises:
        ValueError: The file cannot be read, has several channels, or has values that are not integers in [0, 255]. -1
            (65535 in uint16) counts as 255, the usual void, since that is what it becomes when it is loaded.
    """
    label = read_label(path, step)
    if label.dtype.kind in 'iu' and label.dtype != np.uint8:
        label = np.where(label == np.array(-1).astype(label.dtype), 255, label)
    if label.dtype != np.uint8 and not 0 <= label.min() <= label.max() <= 255:
        raise ValueError(f"label '{path}' has values from {label.min()} to {label.max()}, which do not fit 8 bits")
    if label.dtype.kind == 'f' and (label != np.trunc(label)).any():
        raise ValueError(f"label '{path}' has the value {label[label != np.trunc(label)][0]}, not a class id")
    # Unlike np.bincount, this releases the GIL. Counts are float32.
    return cv2.calcHist([label.astype(np.uint8)], [0], None, [256], [0, 256]).ravel().astype(np.int32)


def values_after_loading(dataset: BaseSegDataset) -> np.ndarray:
    """Map each value that :func:`read_label` returns to the class id after ``reduce_zero_label`` and ``label_map``.

    Runs the pipeline's own ``LoadAnnotations`` on a file with all 256 values, unless it :func:`decodes_itself`.

    Args:
        dataset (BaseSegDataset): With ``LoadAnnotations`` in its pipeline.

    Returns:
        np.ndarray: (256,) uint8, indexed by the value in the file.
    """
    step = find_loading_step(dataset)
    assert step is not None, 'the pipeline has LoadAnnotations'
    if decodes_itself(step):
        return np.array([(dataset.label_map or {}).get(value, value) for value in range(256)], np.uint8)
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
    """Call a function that reads a file for each item, in threads (decoding releases the GIL).

    Shows progress on a terminal, and nothing in logs.

    Yields:
        The results, in order.
    """
    console = Console(stderr=True)
    hidden = not console.is_terminal
    with ThreadPoolExecutor() as pool:
        yield from track(
            pool.map(function, items), description, total=len(items), console=console, transient=True, disable=hidden
        )
