"""Morphology of masks and feature maps with square windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# torch.maximum or torch.minimum.
Extremum = Callable[[Tensor, Tensor], Tensor]


def dilate(mask: Tensor, ksize: int) -> Tensor:
    """Dilate a mask with a ksize x ksize square; pixels outside the image are False.

    Args:
        mask: (B, H, W) bool.
        ksize: Odd window size.

    Returns:
        (B, H, W) bool.
    """
    padded = F.pad(mask.view(torch.uint8), [ksize // 2] * 4)
    return window_extremum(torch.maximum, padded, ksize).view(torch.bool)


def window_extremum(extremum: Extremum, values: Tensor, ksize: int) -> Tensor:
    """``extremum`` over every whole ksize x ksize window of (..., H, W): (..., H - ksize + 1, W - ksize + 1)."""
    for dim in (-2, -1):
        for step in running_steps(ksize):
            length = values.shape[dim] - step
            values = extremum(values.narrow(dim, 0, length), values.narrow(dim, step, length))
    return values


def running_steps(ksize: int) -> Iterator[int]:
    """Distances at which to join two windows, one after another, so that windows of 1 grow to ``ksize``."""
    width = 1
    while width < ksize:
        step = min(width, ksize - width)
        yield step
        width += step
