"""A data pipeline whose errors name the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mmcv.transforms import LoadAnnotations, TestTimeAug
from mmengine.dataset import Compose
from mmseg.datasets.transforms import PackSegInputs
from PIL import Image

from .label_values import count_values, decodes_itself

# Pillow's modes of images with 8 bits for each channel.
EIGHT_BITS = ('1', 'L', 'P', 'LA', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr')
# Exceptions of a transform that have other causes than the content of a file.
_NOT_THE_FILE = (ImportError, MemoryError, NameError, NotImplementedError, TypeError, KeyError)


class BadSampleError(ValueError):
    """A file of the dataset cannot be used. The message is one line and names the file."""


class CheckedPipeline(Compose):
    """A pipeline that reports the file if a sample cannot be loaded or does not fit the model.

    It runs the transforms of another pipeline, including test-time augmentation. It checks that a label has values of 8
    bits, one channel and the size of its image, and before ``PackSegInputs`` (or else at the end) its class ids.
    MMSegmentation itself converts other values to 8 bits and trains on misaligned pairs, and its error for an invalid
    id does not name the file.

    Args:
        transforms: The transforms.
        num_classes: Number of classes of the model. Ids are not checked if it is None.
        ignored_ids: Ids in labels that are not classes.

    Raises:
        BadSampleError: When called, a file cannot be read, or a label has a wrong shape or class id.
    """

    def __init__(
        self, transforms: Sequence[Callable], num_classes: int | None = None, ignored_ids: Sequence[int] = (255,)
    ) -> None:
        super().__init__(transforms)
        self.num_classes = num_classes
        self.ignored_ids = sorted(set(ignored_ids))
        self._checked_paths: set[str] = set()
        self._packs = any(isinstance(step, PackSegInputs) for step in self.transforms)
        for step in self.transforms:
            if isinstance(step, TestTimeAug):
                step.subroutines = [
                    CheckedPipeline(each.transforms, num_classes, ignored_ids) for each in step.subroutines
                ]

    def __call__(self, data: dict) -> dict | None:
        """Apply the transforms to a sample; None if one of them discards it."""
        for step in self.transforms:
            if isinstance(step, PackSegInputs):
                self._check_ids(data)
            loads = type(step).__name__.startswith('Load')
            result = _load(step, data) if loads else step(data)
            if result is None:
                return None
            data = result
            if isinstance(step, LoadAnnotations):
                self._check_values(step, data)
            if loads and 'gt_seg_map' in data:
                _check_shape(data)
        if not self._packs and isinstance(data, dict):  # the pipeline of a dataset that is mixed with others
            self._check_ids(data)
        return data

    def _check_values(self, step: LoadAnnotations, data: dict) -> None:
        path = str(data.get('seg_map_path'))
        if decodes_itself(step) or path in self._checked_paths or data['gt_seg_map'].ndim != 2:
            return
        try:
            with Image.open(path) as image:  # reads the header only
                is_narrow = image.mode in EIGHT_BITS
        except (FileNotFoundError, NotADirectoryError):  # in remote storage or in an archive
            return
        except (OSError, Image.DecompressionBombError):
            is_narrow = False  # Pillow cannot tell
        if not is_narrow:
            try:
                count_values(path, step)
            except ValueError as error:
                raise BadSampleError(f'{str(error)[:1].upper()}{str(error)[1:]}.') from error
            self._checked_paths.add(path)

    def _check_ids(self, data: dict) -> None:
        label = data.get('gt_seg_map')
        if self.num_classes is None or label is None:
            return
        wrong = label >= self.num_classes
        wrong |= label < 0
        for ignored in self.ignored_ids:
            wrong &= label != ignored
        if wrong.any():
            void = ' or '.join(map(str, self.ignored_ids))
            raise BadSampleError(
                f"Label '{data.get('seg_map_path')}' has class id {label[wrong][0]} after loading, but the model has "
                f'{self.num_classes} classes: expected 0 to {self.num_classes - 1}, or {void} for void. '
                'tools/misc/check_dataset.py checks all labels.'
            )


def _load(step: Callable, data: dict) -> dict | None:
    kind, key = ('Label', 'seg_map_path') if isinstance(step, LoadAnnotations) else ('Image', 'img_path')
    path = data.get(key)
    try:
        return step(data)
    except _NOT_THE_FILE:
        raise
    except Exception as error:  # depends on the decoding library
        reason = str(error).strip().split('\n')[0]
        raise BadSampleError(f"{kind} '{path}' cannot be read ({type(error).__name__}: {reason}).") from error


def _check_shape(data: dict) -> None:
    label = data['gt_seg_map']
    if label.ndim != 2:
        raise BadSampleError(
            f"Label '{data.get('seg_map_path')}' has shape {label.shape}: expected one channel of class ids, (H, W)."
        )
    # In testing, the image may have been resized before the label is loaded.
    shapes = [tuple(data['ori_shape'])[:2]] if 'ori_shape' in data else []
    if isinstance(data.get('img'), np.ndarray):
        shapes.append(data['img'].shape[:2])
    if shapes and label.shape not in shapes:
        raise BadSampleError(
            f"Image '{data.get('img_path')}' has {_size(shapes[0])} pixels, but its label '{data.get('seg_map_path')}' "
            f'has {_size(label.shape)}: they must have the same size.'
        )


def _size(shape: Sequence[int]) -> str:
    return f'{shape[1]}x{shape[0]}'
