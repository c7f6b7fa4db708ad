"""Trimap IoU and accuracy: how good the prediction is in bands around the label's boundaries.

Kohli et al., Robust Higher Order Potentials for Enforcing Label Consistency, IJCV 2009; Krähenbühl & Koltun, Efficient
Inference in Fully Connected CRFs with Gaussian Edge Potentials, NeurIPS 2011; Chen et al., DeepLab, TPAMI 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .label_maps import LabelMaps
from .windows import window_has_change


def count_trimaps(maps: LabelMaps, widths_px: Sequence[int]) -> dict[str, np.ndarray]:
    """Count what IoU and accuracy in bands around the label's boundaries need.

    The bands depend on the label alone (:func:`trimap_band`).

    Args:
        maps (LabelMaps): Prediction and label.
        widths_px (Sequence[int]): w of each band, at least 1.

    Returns:
        dict[str, np.ndarray]: ``trimap``, (len(widths_px), 3, num_classes): the pixels of a band that are right, that
        are predicted as the class, and that are labeled as it.
    """
    right = maps.pred == maps.label
    counts = np.zeros((len(widths_px), 3, maps.num_classes), np.int32)
    for row, width_px in zip(counts, widths_px, strict=True):
        band = trimap_band(maps.label, width_px, maps.void)
        row[:] = [maps.count(each) for each in (maps.label[band & right], maps.pred[band], maps.label[band])]
    return dict(trimap=counts)


def trimap_band(label: np.ndarray, width_px: int, ignore_index: int) -> np.ndarray:
    """The band of width w around a label's boundaries.

    It is every pixel whose (2w+1) x (2w+1) window, cut off at the image's edge, contains two different labels, and so
    one that is not the pixel's own. Void is a label here, as its edge is one of the annotation's, but void pixels
    themselves are in no band.

    Args:
        label (np.ndarray): (H, W) of uint8, uint16 or int32.
        width_px (int): w, at least 1.
        ignore_index (int): Void.

    Returns:
        np.ndarray: (H, W) of bool.
    """
    return window_has_change(label, width_px) & (label != ignore_index)
