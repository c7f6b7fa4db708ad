"""Tests of the square window around each pixel."""

from __future__ import annotations

import cv2
import numpy as np


def window_has_change(label: np.ndarray, radius_px: int, outside: int | None = None) -> np.ndarray:
    """Whether the (2r+1) x (2r+1) window around a pixel contains two different labels.

    A window has a single label exactly if each 2 x 2 block of pixels in it has. So one dilation of the map of blocks
    with a change covers all classes at once.

    Args:
        label (np.ndarray): (H, W) uint8, uint16 or int32.
        radius_px (int): r, at least 1.
        outside (int, optional): A label for everything outside the image. Defaults to None: windows are clipped to the
            image.

    Returns:
        np.ndarray: (H, W) bool.
    """
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    padded = cv2.copyMakeBorder(label, 1, 1, 1, 1, border, value=outside)
    across = padded[:, 1:] != padded[:, :-1]
    down = padded[1:, 1:] != padded[:-1, 1:]
    blocks = across[1:] | across[:-1] | down
    # Block (i, j) has the pixels (i - 1, j - 1) to (i, j): the window of pixel (i, j) begins r - 1 blocks before it.
    radius_px = min(radius_px, max(label.shape))
    square = np.ones((2 * radius_px, 2 * radius_px), np.uint8)
    dilated = cv2.dilate(blocks.view(np.uint8), square, anchor=(radius_px - 1, radius_px - 1))
    return dilated[:-1, :-1].view(bool)


def window_has(mask: np.ndarray, radius_px: int) -> np.ndarray:
    """Whether the (2r+1) x (2r+1) window around a pixel contains a pixel of a mask; both (H, W) bool."""
    radius_px = min(radius_px, max(mask.shape))
    square = np.ones((2 * radius_px + 1, 2 * radius_px + 1), np.uint8)
    return cv2.dilate(mask.view(np.uint8), square).view(bool)
