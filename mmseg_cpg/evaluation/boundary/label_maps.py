"""Label maps in the form that the measures use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MAX_CLASSES = np.iinfo(np.uint16).max - 1


class LabelMaps(NamedTuple):
    """A prediction and its label, (H, W) uint8, or uint16 if the ids need it.

    Both are ``void`` where the label is void, so the prediction there has no effect.
    """

    pred: np.ndarray
    label: np.ndarray
    num_classes: int

    @property
    def void(self) -> int:
        return self.num_classes

    @property
    def outside(self) -> int:
        """An id that no pixel has, for everything outside the image."""
        return self.num_classes + 1

    def count(self, classes: np.ndarray) -> np.ndarray:
        """Count the pixels of each class, without void: (num_classes,) int32."""
        return np.bincount(classes.ravel(), minlength=self.num_classes + 1)[: self.num_classes].astype(np.int32)


def prepare_maps(pred: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int) -> LabelMaps:
    """Check a prediction and its label, and convert them for the measures.

    Raises:
        TypeError: A map has a dtype that is not numeric.
        ValueError: The shapes differ or are not (H, W), or a pixel whose label is not void has an invalid class id.
            Floating-point maps must have integer values.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f'num_classes must be from 1 to {MAX_CLASSES}, got {num_classes}')
    if pred.shape != label.shape or label.ndim != 2 or label.size == 0:
        raise ValueError(f'prediction and label must have the same shape (H, W), got {pred.shape} and {label.shape}')
    for name, array in (('prediction', pred), ('label', label)):
        if array.dtype.kind not in 'buif':
            raise TypeError(f'the {name} must have an integer or floating point dtype, got {array.dtype}')
    void = label == ignore_index
    dtype: type = np.uint8 if num_classes + 1 <= np.iinfo(np.uint8).max else np.uint16
    maps: list[np.ndarray] = []
    for name, array in (('prediction', pred), ('label', label)):
        is_class = (array >= 0) & (array < num_classes)
        if array.dtype.kind == 'f':
            is_class &= array == np.trunc(array)
        wrong = ~(is_class | void)
        if wrong.any():
            value = array[wrong][0].item()
            value = int(value) if float(value).is_integer() else value
            expected = f'0 to {num_classes - 1}' + (f' or {ignore_index} for void' if name == 'label' else '')
            raise ValueError(f'the {name} contains class id {value}, expected {expected}')
        narrow: np.ndarray = array.astype(dtype, order='C')
        narrow[void] = num_classes
        maps.append(narrow)
    narrow_pred, narrow_label = maps
    return LabelMaps(narrow_pred, narrow_label, num_classes)
