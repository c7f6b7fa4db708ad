"""Boundary IoU (Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .label_maps import LabelMaps
from .measure import Column, Counts, excluded_percent, mean_of_defined, percent
from .windows import window_has, window_has_change


@dataclass(frozen=True)
class BoundaryIoU:
    """Boundary IoU as a :class:`.measure.Measure`.

    Attributes:
        width_px: Width d of the bands in pixels; None for ``width_ratio``.
        width_ratio: d as a fraction of the image diagonal.
    """

    width_px: int | None
    width_ratio: float
    table_title = 'per class results at boundaries:'

    def count(self, maps: LabelMaps) -> Counts:
        """See :func:`count_boundary_iou`."""
        height, width = maps.label.shape
        return count_boundary_iou(maps, self.width_px or width_in_px(height, width, self.width_ratio))

    def score(self, counts: Counts, totals: Counts) -> dict[str, Any]:
        """``mBIoU``, ``BIoU`` (by class), and ``BIoU_dropped``, the excluded share of the label's bands."""
        both, pred, label = np.moveaxis(counts['BIoU'], -2, 0)
        iou = mean_of_defined(percent(both, pred + label - both), axis=0)
        excluded = excluded_percent(totals['BIoU'][2], totals['BIoU_band'])
        return dict(mBIoU=float(mean_of_defined(iou)), BIoU=iou, BIoU_dropped=excluded)

    def metrics(self, scores: dict[str, Any]) -> dict[str, float]:
        return {name: scores[name] for name in ('mBIoU', 'BIoU_dropped')}

    def columns(self, scores: dict[str, Any]) -> list[Column]:
        return [Column('BIoU', scores['BIoU'], scores['BIoU_dropped'])]


def width_in_px(height: int, width: int, ratio: float) -> int:
    """A fraction of an image's diagonal in whole pixels, at least 1, rounded as by Cheng et al."""
    return max(1, round(ratio * math.sqrt(height**2 + width**2)))


def count_boundary_iou(maps: LabelMaps, width_px: int) -> Counts:
    """Count what Boundary IoU needs, on the mask of each class.

    The band of a mask is the mask minus its erosion by a (2d+1) x (2d+1) square, where everything outside the image is
    background, as in the authors' code: the pixels of the mask within d pixels, along rows and columns, of a pixel
    outside the mask or outside the image. With G and P the bands of the label's and the prediction's mask,

        Boundary IoU = |G and P| / |G or P|.

    Pixels within d pixels of void, in the same sense, are excluded, since their bands depend on what void hides.

    Args:
        maps (LabelMaps): Prediction and label.
        width_px (int): d, at least 1.

    Returns:
        dict[str, np.ndarray]: ``BIoU``, (3, num_classes): the pixels of G and P, of P, and of G. ``BIoU_band``, (): the
        pixels of the label's bands if void were another class, including those that are excluded near void.
    """
    void = maps.label == maps.void
    near_void = window_has(void, width_px)
    label_band = window_has_change(maps.label, width_px, maps.outside)
    all_bands = np.count_nonzero(label_band & ~void)
    label_band &= ~near_void
    pred_band = window_has_change(maps.pred, width_px, maps.outside) & ~near_void
    both = label_band & pred_band & (maps.pred == maps.label)
    pixels = maps.label[both], maps.pred[pred_band], maps.label[label_band]
    return dict(BIoU=np.stack([maps.count(each) for each in pixels]), BIoU_band=np.array(all_bands))
