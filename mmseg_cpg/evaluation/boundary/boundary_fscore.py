"""Boundary F-score (Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR
2016), for each class of a label map as in Takikawa et al., Gated-SCNN, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .label_maps import LabelMaps
from .measure import Column, Counts, excluded_percent, mean_of_defined, percent
from .windows import window_has


@dataclass(frozen=True)
class BoundaryFScore:
    """The boundary F-score as a :class:`.measure.Measure`.

    Attributes:
        tolerances_px: Tolerances t in pixels.
    """

    tolerances_px: Sequence[int]
    table_title = 'per class results at boundaries:'

    def count(self, maps: LabelMaps) -> Counts:
        """See :func:`count_boundary_fscore`."""
        return count_boundary_fscore(maps, self.tolerances_px)

    def score(self, counts: Counts, totals: Counts) -> dict[str, Any]:
        """By tolerance: ``F``, the mean of ``F_per_class``; ``F_dropped``, the excluded share of label boundary."""
        f_score = mean_of_defined(_f_score(*np.moveaxis(counts['F'], -2, 0).astype(float)), axis=0)
        excluded = [excluded_percent(label, totals['F_edge']) for label in totals['F'][:, 3]]
        return dict(
            F=dict(zip(self.tolerances_px, mean_of_defined(f_score, axis=-1).tolist(), strict=True)),
            F_per_class=dict(zip(self.tolerances_px, f_score, strict=True)),
            F_dropped=dict(zip(self.tolerances_px, excluded, strict=True)),
        )

    def metrics(self, scores: dict[str, Any]) -> dict[str, float]:
        names = {'F': 'mF', 'F_dropped': 'F_dropped'}
        return {f'{to}_{t}px': score for name, to in names.items() for t, score in scores[name].items()}

    def columns(self, scores: dict[str, Any]) -> list[Column]:
        return [Column(f'F {t}px', values, scores['F_dropped'][t]) for t, values in scores['F_per_class'].items()]


def count_boundary_fscore(maps: LabelMaps, tolerances_px: Sequence[int]) -> Counts:
    """Count what the boundary F-score needs, for each class and tolerance.

    The boundary of a class consists of its pixels with a pixel of another class to the left, right, above or below.
    Neither the image border nor void is a boundary. A boundary pixel is matched if the other map has a boundary pixel
    of the same class within t pixels (Euclidean distance): precision is the matched share of the predicted boundary,
    recall that of the label's, and F their harmonic mean. This is equivalent to dilating the other map's boundary by a
    disk of radius t, with which Perazzi et al. approximate a one-to-one matching.

    Pixels within t pixels of void are excluded.

    Differences from the code of both papers: it marks the pixels left of and above a change, including diagonal ones,
    on either side of it, so its boundaries are thicker, and it treats void as background, so borders of void are
    boundaries.

    Args:
        maps (LabelMaps): Prediction and label.
        tolerances_px (Sequence[int]): t, at least 1.

    Returns:
        dict[str, np.ndarray]: ``F``, (len(tolerances_px), 4, num_classes): matched and all boundary pixels of the
        prediction, then of the label. ``F_edge``, (): the boundary pixels of the label if void were another class,
        including those that are excluded near void.
    """
    if not tolerances_px:
        return dict(F=np.zeros((0, 4, maps.num_classes), np.int32), F_edge=np.array(0))
    pred, label = (np.where(_boundary(each, maps.void), each, maps.void) for each in (maps.pred, maps.label))
    near_void = window_has(maps.label == maps.void, max(tolerances_px))
    matches = [_match(*edges, near_void, maps, tolerances_px) for edges in ((pred, label), (label, pred))]
    edge = _boundary(maps.label) & (maps.label != maps.void)
    return dict(F=np.concatenate(matches, axis=1), F_edge=np.array(np.count_nonzero(edge)))


def _f_score(matched_pred: np.ndarray, pred: np.ndarray, matched_label: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall in percent, 0 without a match, NaN without a boundary."""
    # 2 P R / (P + R), multiplied by both denominators, which may be 0.
    f_score = percent(2 * matched_pred * matched_label, matched_pred * label + matched_label * pred)
    return np.where((pred + label > 0) & np.isnan(f_score), 0.0, f_score)


def _boundary(label: np.ndarray, void: int | None = None) -> np.ndarray:
    """Mark pixels with another label to the left, right, above or below; with ``void``, only where neither is void."""
    marked = np.zeros(label.shape, bool)
    for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differ = label[here] != label[there]
        if void is not None:
            differ &= (label[here] != void) & (label[there] != void)
        marked[here] |= differ
        marked[there] |= differ
    return marked


def _match(
    edge: np.ndarray, other: np.ndarray, near_void: np.ndarray, maps: LabelMaps, tolerances_px: Sequence[int]
) -> np.ndarray:
    """Count the matched and all pixels of a boundary: (len(tolerances_px), 2, num_classes)."""
    radius_px = max(tolerances_px)
    pixels = np.flatnonzero(edge != maps.void)
    classes = edge.ravel()[pixels]
    distance2 = _nearest(pixels, classes, other, radius_px, maps.outside)
    # The distance to void matters only for the few pixels near it.
    void_distance2 = np.full(len(pixels), radius_px**2 + 1)
    near = near_void.ravel()[pixels]
    void = np.full(np.count_nonzero(near), maps.void, edge.dtype)
    void_distance2[near] = _nearest(pixels[near], void, maps.label, radius_px, maps.outside)
    counts = np.zeros((len(tolerances_px), 2, maps.num_classes), np.int32)
    for row, tolerance_px in zip(counts, tolerances_px, strict=True):
        valid = void_distance2 > tolerance_px**2
        matched = valid & (distance2 <= tolerance_px**2)
        row[:] = maps.count(classes[matched]), maps.count(classes[valid])
    return counts


def _nearest(pixels: np.ndarray, wanted: np.ndarray, target: np.ndarray, radius_px: int, outside: int) -> np.ndarray:
    """Squared distance from each pixel to the nearest pixel of the target with the wanted value.

    The search proceeds outward ring by ring, for the pixels that have found nothing yet, so its cost does not depend on
    the number of classes.

    Args:
        pixels (np.ndarray): (n,) flat indices into the target.
        wanted (np.ndarray): (n,) value to look for.
        target (np.ndarray): (H, W).
        radius_px (int): Search radius.
        outside (int): Sentinel for pixels outside the image.

    Returns:
        np.ndarray: (n,) int, ``radius_px**2 + 1`` if there is none.
    """
    padded = cv2.copyMakeBorder(target, radius_px, radius_px, radius_px, radius_px, cv2.BORDER_CONSTANT, value=outside)
    row, column = np.divmod(pixels, target.shape[1])
    index = (row + radius_px) * padded.shape[1] + column + radius_px
    padded = padded.ravel()
    found = np.full(len(pixels), radius_px**2 + 1)
    left = np.arange(len(pixels))
    for distance2, offsets in _rings(radius_px):
        hit = np.zeros(len(left), bool)
        for y, x in offsets:
            hit |= padded[index + (y * (target.shape[1] + 2 * radius_px) + x)] == wanted
        found[left[hit]] = distance2
        left, index, wanted = left[~hit], index[~hit], wanted[~hit]
        if not len(left):
            break
    return found


def _rings(radius_px: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each squared distance up to the radius with its (y, x) offsets, nearest first."""
    offsets = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1].reshape(2, -1).T
    distance2 = (offsets**2).sum(1)
    for each in np.unique(distance2[distance2 <= radius_px**2]):
        yield each, offsets[distance2 == each]
