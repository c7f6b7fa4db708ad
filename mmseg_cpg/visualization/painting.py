"""Colors class maps and masks as RGB images, (H, W, 3) uint8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = tuple[int, int, int]  # RGB in [0, 255]

VOID_COLOR: Color = (255, 0, 255)
RIGHT_COLOR = (70, 200, 235)
WRONG_COLOR = (255, 45, 30)
BOUNDARY_COLOR = (255, 215, 0)


def paint_classes(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Color a map of class ids (H, W); ids that are not in the palette are void."""
    colors = np.array([*palette, VOID_COLOR], np.uint8)
    known = (label >= 0) & (label < len(palette))
    return colors[np.where(known, label, len(palette))]


def paint_masks(image: np.ndarray, *masks: tuple[np.ndarray, Sequence[int]]) -> np.ndarray:
    """Color masks, pairs of (H, W) bool and a color, on the image in dark gray; later masks are on top."""
    canvas = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2, cv2.COLOR_GRAY2RGB)
    for mask, color in masks:
        canvas[mask] = color
    return canvas
