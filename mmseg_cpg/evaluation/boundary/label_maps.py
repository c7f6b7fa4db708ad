"""Label maps in the form that the measures work on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MAX_CLASSES = np.iinfo(np.uint16).max - 1


class LabelMaps(NamedTuple):
    """A prediction and its label, (H, W) of uint8, or uint16 where the ids need it.

    Where the label is void, both are ``void``, so that the prediction there has no influence.
    """

    pred: np.ndarray
    label: np.ndarray
    num_classes: int

    @property
    def void(self) -> int:
        return self.num_classes

    @property
    def outside(self) -> int:
        """An id that no pixel has, for what lies outside the image."""
        return self.num_classes + 1

    def count(self, classes: np.ndarray) -> np.ndarray:
        """Count each class among some pixels: (num_classes,) of int32. Void is left out."""
        return np.bincount(classes.ravel(), minlength=self.num_classes + 1)[: self.num_classes].astype(np.int32)


def prepare_maps(pred: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int) -> LabelMaps:
    """Check a prediction and its label, and bring them into the form that the measures work on.

    Raises:
        TypeError: A map has no numbers.
        ValueError: The shapes differ or are not (H, W), or a pixel whose label is not void has no class id. Whole
            numbers in floating point are class ids.
    """
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f'num_classes must be from 1 to {MAX_CLASSES}, got {num_classes}')
    if pred.shape != label.shape or label.ndim != 2 or label.size == 0:
        raise ValueError(f'prediction and label must have one shape (H, W), got {pred.shape} and {label.shape}')
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
            expected = f'0 to {num_classes - 1}' + f' or {ignore_index} for void' * (name == 'label')
            raise ValueError(f'the {name} contains class id {value}, expected {expected}')
        narrow: np.ndarray = array.astype(dtype, order='C')
        narrow[void] = num_classes
        maps.append(narrow)
    narrow_pred, narrow_label = maps
    return LabelMaps(narrow_pred, narrow_label, num_classes)
