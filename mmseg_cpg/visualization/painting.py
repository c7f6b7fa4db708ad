"""Colours: maps of classes and of right and wrong pixels as RGB images, (H, W, 3) of uint8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

VOID_COLOUR = (255, 0, 255)
RIGHT_COLOUR = (70, 200, 235)
WRONG_COLOUR = (255, 45, 30)
BOUNDARY_COLOUR = (255, 215, 0)


def paint_classes(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Colour a map of class ids (H, W); ids that are not in the palette are void."""
    colours = np.array([*palette, VOID_COLOUR], np.uint8)
    known = (label >= 0) & (label < len(palette))
    return colours[np.where(known, label, len(palette))]


def paint_masks(image: np.ndarray, *masks: tuple[np.ndarray, Sequence[int]]) -> np.ndarray:
    """Colour masks, pairs of (H, W) of bool and a colour, over a dark grey image; later ones lie on top."""
    canvas = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2, cv2.COLOR_GRAY2RGB)
    for mask, colour in masks:
        canvas[mask] = colour
    return canvas
