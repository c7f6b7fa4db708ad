"""Boundary quality: counts of an image, and the scores of a dataset from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from .boundary_fscore import BoundaryFScore
from .boundary_iou import BoundaryIoU
from .label_maps import prepare_maps
from .measure import Counts, Measure
from .trimap import Trimaps

AVERAGES = ('dataset', 'image')


@dataclass(frozen=True)
class BoundarySettings:
    """What to measure.

    Args:
        ignore_index (int): Id of void pixels in the label. Defaults to 255.
        width_px (int, optional): Width d of the bands of Boundary IoU in pixels. Defaults to None: ``width_ratio``.
        width_ratio (float): d as a fraction of the image diagonal, in (0, 1]. Defaults to 0.02, as Cheng et al. use for
            COCO and ADE20K; they use 0.005 for Cityscapes.
        trimap_widths_px (Sequence[int]): Widths of the trimaps in pixels; empty for no trimaps.
        tolerances_px (Sequence[int]): Tolerances of the boundary F-score in pixels; empty for no F-score.
        average (str): 'dataset' sums the counts of all images, as for mIoU; 'image' averages the scores of the images,
            for each class over the images where it is defined. Defaults to 'dataset'.

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

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures with these settings."""
        return (
            BoundaryIoU(self.width_px, self.width_ratio),
            Trimaps(self.trimap_widths_px),
            BoundaryFScore(self.tolerances_px),
        )


def count_boundaries(pred: np.ndarray, label: np.ndarray, num_classes: int, settings: BoundarySettings) -> Counts:
    """Count what the scores need on one image. Counts of several images can be added.

    Args:
        pred (np.ndarray): (H, W) class ids in [0, num_classes); any value where the label is void.
        label (np.ndarray): (H, W) class ids in [0, num_classes), or ``ignore_index``.
        num_classes (int): Number of classes.
        settings (BoundarySettings): What to measure.

    Returns:
        dict[str, np.ndarray]: Integer counts of :func:`.boundary_iou.count_boundary_iou`,
        :func:`.trimap.count_trimaps` and :func:`.boundary_fscore.count_boundary_fscore`, and ``label``,
        (num_classes + 1,): the label's pixels of each class, and those of void.

    Raises:
        ValueError: The shapes differ or are not (H, W), or a class id is out of range.

    Example:
        >>> label = np.eye(32, dtype=np.uint8)
        >>> counts = count_boundaries(label, label, 2, BoundarySettings(width_px=2))
        >>> boundary_scores([counts], BoundarySettings(width_px=2))['mBIoU']
        100.0
    """
    maps = prepare_maps(pred, label, num_classes, settings.ignore_index)
    pixels = np.bincount(maps.label.ravel(), minlength=num_classes + 1)
    return dict(label=pixels, **{key: count for each in settings.measures for key, count in each.count(maps).items()})


def ids_in_labels(counts: Sequence[Counts], settings: BoundarySettings) -> set[int]:
    """The class ids in the labels of images, and ``ignore_index`` if there is void.

    Args:
        counts (Sequence[dict]): Results of :func:`count_boundaries` for each image.
        settings (BoundarySettings): Settings that they were computed with.
    """
    *classes, void = np.any([each['label'] for each in counts], axis=0)
    return {*np.flatnonzero(classes).tolist(), *([settings.ignore_index] if void else [])}


def boundary_scores(counts: Sequence[Counts], settings: BoundarySettings) -> dict[str, Any]:
    """Turn the counts of images into scores.

    All are percentages. The score of a class is NaN if neither prediction nor label has anything to count; means
    exclude such classes.

    Args:
        counts (Sequence[dict]): Results of :func:`count_boundaries` for each image, at least one.
        settings (BoundarySettings): Settings that they were computed with.

    Returns:
        dict: ``mBIoU`` (float) and ``BIoU`` ((num_classes,) array); ``BIoU_dropped`` (float), the share of the label's
        bands, including those along void, that is excluded near void. By width: ``trimap_mIoU`` and ``trimap_aAcc``
        (floats), ``trimap_IoU`` and ``trimap_Acc`` (arrays). By tolerance: ``F`` (float, the mean of the classes),
        ``F_per_class`` (array), and ``F_dropped`` (float), the excluded share of the label's boundary. If void outlines
        every object (Pascal VOC), nearly everything is excluded, and Boundary IoU evaluates only pixels at the image
        border.

    Raises:
        ValueError: There are no counts.
    """
    if not counts:
        raise ValueError('there are no images to score')
    by_image = {name: np.stack([each[name] for each in counts]) for name in counts[0]}
    totals = {name: values.sum(0) for name, values in by_image.items()}
    averaged = by_image if settings.average == 'image' else {name: total[None] for name, total in totals.items()}
    return {name: score for each in settings.measures for name, score in each.score(averaged, totals).items()}


def _check_px(name: str, value: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f'{name} must be whole pixels, at least 1, got {value!r}')
