"""Trimap IoU and accuracy: the quality of the prediction in bands around the label's boundaries.

Kohli et al., Robust Higher Order Potentials for Enforcing Label Consistency, IJCV 2009; Krähenbühl & Koltun, Efficient
Inference in Fully Connected CRFs with Gaussian Edge Potentials, NeurIPS 2011; Chen et al., DeepLab, TPAMI 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .label_maps import LabelMaps
from .measure import Column, Counts, mean_of_defined, percent
from .windows import window_has_change


@dataclass(frozen=True)
class Trimaps:
    """IoU and accuracy in trimaps as a :class:`.measure.Measure`.

    Attributes:
        widths_px: Widths w of the bands in pixels.
    """

    widths_px: Sequence[int]
    table_title = 'per class results in trimaps:'

    def count(self, maps: LabelMaps) -> Counts:
        """See :func:`count_trimaps`."""
        return count_trimaps(maps, self.widths_px)

    def score(self, counts: Counts, totals: Counts) -> dict[str, Any]:
        """By width: ``trimap_mIoU`` and ``trimap_aAcc``; ``trimap_IoU`` and ``trimap_Acc`` (by class)."""
        right, pred, label = np.moveaxis(counts['trimap'], -2, 0)
        iou = mean_of_defined(percent(right, pred + label - right), axis=0)
        acc = mean_of_defined(percent(right, label), axis=0)
        all_acc = mean_of_defined(percent(right.sum(-1), label.sum(-1)), axis=0)
        return dict(
            trimap_mIoU=dict(zip(self.widths_px, mean_of_defined(iou, axis=-1).tolist(), strict=True)),
            trimap_aAcc=dict(zip(self.widths_px, all_acc.tolist(), strict=True)),
            trimap_IoU=dict(zip(self.widths_px, iou, strict=True)),
            trimap_Acc=dict(zip(self.widths_px, acc, strict=True)),
        )

    def metrics(self, scores: dict[str, Any]) -> dict[str, float]:
        names = ('trimap_mIoU', 'trimap_aAcc')
        return {f'{name}_{width_px}px': score for name in names for width_px, score in scores[name].items()}

    def columns(self, scores: dict[str, Any]) -> list[Column]:
        columns = [Column(f'IoU {width_px}px', values) for width_px, values in scores['trimap_IoU'].items()]
        return columns + [Column(f'Acc {width_px}px', values) for width_px, values in scores['trimap_Acc'].items()]


def count_trimaps(maps: LabelMaps, widths_px: Sequence[int]) -> Counts:
    """Count what IoU and accuracy in bands around the label's boundaries need.

    The bands depend on the label alone (:func:`trimap_band`).

    Args:
        maps (LabelMaps): Prediction and label.
        widths_px (Sequence[int]): w of each band, at least 1.

    Returns:
        dict[str, np.ndarray]: ``trimap``, (len(widths_px), 3, num_classes): the pixels of a band that are correct, that
        are predicted as the class, and that are labeled as the class.
    """
    right = maps.pred == maps.label
    counts = np.zeros((len(widths_px), 3, maps.num_classes), np.int32)
    for row, width_px in zip(counts, widths_px, strict=True):
        band = trimap_band(maps.label, width_px, maps.void)
        row[:] = [maps.count(each) for each in (maps.label[band & right], maps.pred[band], maps.label[band])]
    return dict(trimap=counts)


def trimap_band(label: np.ndarray, width_px: int, ignore_index: int) -> np.ndarray:
    """The band of width w around a label's boundaries.

    It contains every pixel whose (2w+1) x (2w+1) window, clipped to the image, contains two different labels. Void is
    a label here, since its border is a border of the annotation, but void pixels themselves are in no band.

    Args:
        label (np.ndarray): (H, W) uint8, uint16 or int32.
        width_px (int): w, at least 1.
        ignore_index (int): Id of void pixels.

    Returns:
        np.ndarray: (H, W) bool.
    """
    return window_has_change(label, width_px) & (label != ignore_index)
