"""Boundary IoU (Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation, CVPR 2021)."""

from __future__ import annotations

import numpy as np

from .label_maps import LabelMaps
from .windows import window_has, window_has_change


def count_boundary_iou(maps: LabelMaps, width_px: int) -> dict[str, np.ndarray]:
    """Count what Boundary IoU needs, on the mask of each class.

    The band of a mask is the mask minus its erosion by a (2d+1) x (2d+1) square, where everything outside the image is
    background, as in the authors' code: the pixels of the mask within d pixels, along rows and columns, of one that is
    not in the mask or of the image's edge. With G and P the bands of the label's and the prediction's mask,

        Boundary IoU = |G and P| / |G or P|.

    Pixels within d pixels, in the same sense, of void count nowhere: their bands depend on what the void hides.

    Args:
        maps (LabelMaps): Prediction and label.
        width_px (int): d, at least 1.

    Returns:
        dict[str, np.ndarray]: ``BIoU``, (3, num_classes): the pixels of G and P, of P, and of G. ``BIoU_band``, (): the
        pixels that the label's bands would have if void were one more class, of which those near void are left out.
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
