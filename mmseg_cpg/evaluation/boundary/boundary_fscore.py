"""Boundary F-score (Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR
2016), for each class of a label map as in Takikawa et al., Gated-SCNN, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from .label_maps import LabelMaps
from .windows import window_has


def count_boundary_fscore(maps: LabelMaps, tolerances_px: Sequence[int]) -> dict[str, np.ndarray]:
    """Count what the boundary F-score needs, for each class and tolerance.

    The boundary of a class is its pixels with one of another class to the left, right, above or below. Neither the
    image's edge nor void makes a boundary. A boundary pixel is matched if the other map has a boundary pixel of the
    same class within t pixels of it (Euclidean distance): precision is the matched share of the predicted boundary,
    recall that of the label's, and F their harmonic mean. It is the same as dilating the other map's boundary by a disk
    of radius t, by which Perazzi et al. approximate a one-to-one matching.

    Pixels within t pixels of void count neither as matched nor as unmatched.

    What differs from the code of both papers: it marks the pixels to the left of and above a change, diagonal ones
    included, on whichever side of it these are, so its boundaries are thicker, and it counts void as background, so
    that the edges of void are boundaries.

    Args:
        maps (LabelMaps): Prediction and label.
        tolerances_px (Sequence[int]): t, at least 1.

    Returns:
        dict[str, np.ndarray]: ``F``, (len(tolerances_px), 4, num_classes): matched and all boundary pixels of the
        prediction, then of the label. ``F_edge``, (): the boundary pixels that the label would have if void were one
        more class, of which those near void are left out.
    """
    if not tolerances_px:
        return dict(F=np.zeros((0, 4, maps.num_classes), np.int32), F_edge=np.array(0))
    pred, label = (np.where(_boundary(each, maps.void), each, maps.void) for each in (maps.pred, maps.label))
    near_void = window_has(maps.label == maps.void, max(tolerances_px))
    matches = [_match(*edges, near_void, maps, tolerances_px) for edges in ((pred, label), (label, pred))]
    edge = _boundary(maps.label) & (maps.label != maps.void)
    return dict(F=np.concatenate(matches, axis=1), F_edge=np.array(np.count_nonzero(edge)))


def _boundary(label: np.ndarray, void: int | None = None) -> np.ndarray:
    """Mark the pixels with another label left, right, above or below, where neither is void."""
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
    # Few pixels are near void, and only for those it matters how near.
    void_distance2 = np.full(len(pixels), radius_px**2 + 1)
    near = near_void.ravel()[pixels]
    void = np.full(np.count_nonzero(near), maps.void, edge.dtype)
    void_distance2[near] = _nearest(pixels[near], void, maps.label, radius_px, maps.outside)
    counts = np.zeros((len(tolerances_px), 2, maps.num_classes), np.int32)
    for row, tolerance_px in zip(counts, tolerances_px, strict=True):
        counted = void_distance2 > tolerance_px**2
        matched = counted & (distance2 <= tolerance_px**2)
        row[:] = maps.count(classes[matched]), maps.count(classes[counted])
    return counts


def _nearest(pixels: np.ndarray, wanted: np.ndarray, target: np.ndarray, radius_px: int, outside: int) -> np.ndarray:
    """Squared distance from each pixel to the nearest pixel of the target with the wanted value.

    The search goes outwards ring by ring, for the pixels that have found nothing yet, so it costs the same for any
    number of classes.

    Args:
        pixels (np.ndarray): (n,) flat indices into the target.
        wanted (np.ndarray): (n,) what each of them looks for.
        target (np.ndarray): (H, W).
        radius_px (int): How far to look.
        outside (int): Sentinel for pixels outside the image.

    Returns:
        np.ndarray: (n,) of int, ``radius_px**2 + 1`` where there is none.
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
    """Yield each squared distance up to that of the radius and the (y, x) offsets at it, from the nearest on."""
    offsets = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1].reshape(2, -1).T
    distance2 = (offsets**2).sum(1)
    for each in np.unique(distance2[distance2 <= radius_px**2]):
        yield each, offsets[distance2 == each]
