"""Boundary quality: counts of an image, and the scores of a dataset from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from .boundary_fscore import count_boundary_fscore
from .boundary_iou import count_boundary_iou
from .label_maps import prepare_maps
from .trimap import count_trimaps

AVERAGES = ('dataset', 'image')


@dataclass(frozen=True)
class BoundarySettings:
    """What to measure.

    Args:
        ignore_index (int): Void in the label. Defaults to 255.
        width_px (int, optional): Width d of the bands of Boundary IoU in pixels. Defaults to None: ``width_ratio``.
        width_ratio (float): d as a share of the image's diagonal, in (0, 1]. Defaults to 0.02, as Cheng et al. use for
            COCO and ADE20K; they use 0.005 for Cityscapes.
        trimap_widths_px (Sequence[int]): Widths of the trimaps in pixels; none for no trimaps.
        tolerances_px (Sequence[int]): Tolerances of the boundary F-score in pixels; none for no F-score.
        average (str): 'dataset' sums the counts of all images, as mIoU does; 'image' takes the mean of the images'
            scores, for each class over those images where it has any. Defaults to 'dataset'.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.
    """

    ignore_index: int = 255
    width_px: int | None = None
    width_ratio: float = 0.02
    trimap_widths_px: Sequence[int] = (1, 3, 5, 10, 20)
    tolerances_px: Sequence[int] = (1, 3, 5, 9)
    average: str = 'dataset'

    def __post_init__(self) -> None:
        if not isinstance(self.ignore_index, Integral):
            raise TypeError(f'ignore_index must be an int, got {self.ignore_index!r}')
        if self.width_px is not None:
            _check_px('width_px', self.width_px)
        if not isinstance(self.width_ratio, Real) or not 0 < self.width_ratio <= 1:
            raise ValueError(f'width_ratio must be in (0, 1], got {self.width_ratio!r}')
        for name in ('trimap_widths_px', 'tolerances_px'):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str):
                raise TypeError(f'{name} must be a sequence of ints, got {values!r}')
            for value in values:
                _check_px(name, value)
        if self.average not in AVERAGES:
            raise ValueError(f'average must be one of {AVERAGES}, got {self.average!r}')


def width_in_px(height: int, width: int, ratio: float) -> int:
    """A share of an image's diagonal in whole pixels, at least 1, rounded as by Cheng et al."""
    return max(1, round(ratio * math.sqrt(height**2 + width**2)))


def count_boundaries(
    pred: np.ndarray, label: np.ndarray, num_classes: int, settings: BoundarySettings
) -> dict[str, np.ndarray]:
    """Count on one image what the scores need; the counts of several images can be added.

    Args:
        pred (np.ndarray): (H, W) class ids in [0, num_classes); what stands where the label is void does not matter.
        label (np.ndarray): (H, W) class ids in [0, num_classes), or ``ignore_index``.
        num_classes (int): Number of classes.
        settings (BoundarySettings): What to measure.

    Returns:
        dict[str, np.ndarray]: Integer counts of :func:`.boundary_iou.count_boundary_iou`,
        :func:`.trimap.count_trimaps` and :func:`.boundary_fscore.count_boundary_fscore`.

    Raises:
        ValueError: The shapes differ or are not (H, W), or a class id is out of range.

    Example:
        >>> label = np.eye(32, dtype=np.uint8)
        >>> counts = count_boundaries(label, label, 2, BoundarySettings(width_px=2))
        >>> boundary_scores([counts], BoundarySettings(width_px=2))['mBIoU']
        100.0
    """
    maps = prepare_maps(pred, label, num_classes, settings.ignore_index)
    width_px = settings.width_px or width_in_px(label.shape[0], label.shape[1], settings.width_ratio)
    return {
        **count_boundary_iou(maps, width_px),
        **count_trimaps(maps, settings.trimap_widths_px),
        **count_boundary_fscore(maps, settings.tolerances_px),
    }


def boundary_scores(counts: Sequence[dict[str, np.ndarray]], settings: BoundarySettings) -> dict:
    """Turn the counts of images into scores.

    All are percentages. A score of a class is NaN where neither prediction nor label has anything to count, and means
    leave such classes out.

    Args:
        counts (Sequence[dict]): What :func:`count_boundaries` returned for each image, at least one.
        settings (BoundarySettings): What they were made with.

    Returns:
        dict: ``mBIoU`` (float) and ``BIoU`` ((num_classes,) array); ``BIoU_dropped`` (float), the share of the label's
        bands, those along void included, that is left out because void is near. By width: ``trimap_mIoU`` and
        ``trimap_aAcc`` (floats), ``trimap_IoU`` and ``trimap_Acc`` (arrays). By tolerance: ``F`` (float, the mean of
        the classes), ``F_per_class`` (array), and ``F_dropped`` (float), the like share of the label's boundary. Where
        void lines every object (Pascal VOC) nearly all is dropped, and Boundary IoU speaks of the image's edge alone.

    Raises:
        ValueError: There are no counts.
    """
    if not counts:
        raise ValueError('there are no images to score')
    image_counts = {name: np.stack([each[name] for each in counts]) for name in counts[0]}
    totals = {name: values.sum(0, keepdims=True) for name, values in image_counts.items()}
    averaged = totals if settings.average == 'dataset' else image_counts

    both, pred, label = np.moveaxis(averaged['BIoU'], -2, 0)
    biou = mean_of_defined(_percent(both, pred + label - both), axis=0)
    scores = dict(
        mBIoU=float(mean_of_defined(biou)),
        BIoU=biou,
        BIoU_dropped=_dropped(totals['BIoU'][0, 2], totals['BIoU_band'][0]),
    )

    right, pred, label = np.moveaxis(averaged['trimap'], -2, 0)
    iou = mean_of_defined(_percent(right, pred + label - right), axis=0)
    acc = mean_of_defined(_percent(right, label), axis=0)
    all_acc = mean_of_defined(_percent(right.sum(-1), label.sum(-1)), axis=0)
    widths_px = settings.trimap_widths_px
    scores.update(
        trimap_mIoU=dict(zip(widths_px, mean_of_defined(iou, axis=-1).tolist(), strict=True)),
        trimap_aAcc=dict(zip(widths_px, all_acc.tolist(), strict=True)),
        trimap_IoU=dict(zip(widths_px, iou, strict=True)),
        trimap_Acc=dict(zip(widths_px, acc, strict=True)),
    )

    f_score = mean_of_defined(_f_score(*np.moveaxis(averaged['F'], -2, 0).astype(float)), axis=0)
    tolerances_px = settings.tolerances_px
    dropped = [_dropped(label, totals['F_edge'][0]) for label in totals['F'][0, :, 3]]
    scores.update(
        F=dict(zip(tolerances_px, mean_of_defined(f_score, axis=-1).tolist(), strict=True)),
        F_per_class=dict(zip(tolerances_px, f_score, strict=True)),
        F_dropped=dict(zip(tolerances_px, dropped, strict=True)),
    )
    return scores


def _f_score(matched_pred: np.ndarray, pred: np.ndarray, matched_label: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall in percent, 0 without a match, NaN without a boundary."""
    # 2 P R / (P + R), times both denominators, which may be 0.
    f_score = _percent(2 * matched_pred * matched_label, matched_pred * label + matched_label * pred)
    return np.where((pred + label > 0) & np.isnan(f_score), 0.0, f_score)


def _dropped(counted: np.ndarray, total: np.ndarray) -> float:
    return float(_percent(total - counted.sum(), total))


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """100 part / whole, NaN where the whole is 0."""
    with np.errstate(invalid='ignore'):
        return 100 * np.true_divide(part, whole)


def mean_of_defined(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The mean of what is not NaN, itself NaN if nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid='ignore'):
        return np.where(there, values, 0).sum(axis) / there.sum(axis)


def _check_px(name: str, value: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f'{name} must be whole pixels, at least 1, got {value!r}')
