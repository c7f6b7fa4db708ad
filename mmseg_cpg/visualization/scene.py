"""What the pictures show: an image, its label, what models predict there, and where to look closely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cpg.ops import BoundaryTargets, boundary_targets
from mmseg_cpg.ops.cpg.dense import probability_gradient
from mmseg_cpg.ops.cpg.sobel import sobel_numerators

VOID = -1
LINE_PX = 64
NUM_EDGES = 4
EDGE_DISTANCE_PX = 4
CLOSE_UP_PX = 96


class Prediction(NamedTuple):
    """What a model predicts.

    Attributes:
        name (str): The model's name.
        label (np.ndarray): The predicted classes, (H, W).
        probability (np.ndarray): Their probabilities, (C, H, W) of float32 in [0, 1]; two classes for binary models.
    """

    name: str
    label: np.ndarray
    probability: np.ndarray

    @classmethod
    def from_sample(cls, name: str, sample: SegDataSample) -> Prediction:
        """The prediction in a data sample, whose ``seg_logits`` are the sigmoid if they have one channel."""
        logits = sample.seg_logits.data.float().cpu()
        probability = torch.cat([1 - logits, logits]) if len(logits) == 1 else logits.softmax(0)
        return cls(name, sample.pred_sem_seg.data[0].long().cpu().numpy(), probability.numpy())

    def gradient(self, category: int, ksize: int) -> np.ndarray:
        """Magnitude of the gradient of a class's probability, (H, W) of float32, with kernels of maximum 1."""
        probability = torch.from_numpy(self.probability[None, category, None])
        return probability_gradient(probability, ksize)[0, 0].norm(dim=0).numpy()


class Scene(NamedTuple):
    """An image and what is known about it.

    Attributes:
        image (np.ndarray): RGB, (H, W, 3) of uint8.
        label (np.ndarray, optional): Class ids or ``ignore_index``, (H, W); None without ground truth.
        predictions (Sequence[Prediction]): Of one or several models.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[Sequence[int]]): Their colors, RGB in [0, 255].
        ignore_index (int): Id of void pixels. Defaults to 255.
        ignore_policy (str): What void does to the boundary, see :class:`~mmseg_cpg.CPGLoss`. Defaults to 'exclude'.
    """

    image: np.ndarray
    label: np.ndarray | None
    predictions: Sequence[Prediction]
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    ignore_index: int = 255
    ignore_policy: str = 'exclude'

    @property
    def reference(self) -> np.ndarray:
        """The label, with ``VOID`` at void pixels, whose id may be a class's, too; without one the first prediction."""
        if self.label is None:
            return self.predictions[0].label
        return np.where(self.label == self.ignore_index, VOID, self.label.astype(int))

    def boundary(self, ksize: int) -> BoundaryTargets:
        """The boundary of the label (or of the first prediction) as CPG loss has it."""
        return boundary_targets(self.reference, ksize, ignore_index=VOID, ignore_policy=self.ignore_policy)

    def label_gradient(self, category: int, ksize: int) -> np.ndarray:
        """Magnitude of the label's gradient of a class, (H, W) of float32, 0 where CPG loss does not count it."""
        targets = self.boundary(ksize)
        entry = targets.class_index == category
        gradient = np.zeros(self.reference.shape, np.float32)
        magnitude = targets.edge_true[:, entry].float().norm(dim=0) / sobel_numerators(ksize)[1]
        gradient.ravel()[targets.pixel[entry].numpy()] = magnitude.numpy()
        return gradient

    def main_category(self) -> int:
        """The class with the most boundary, or the most frequent one where there is no boundary."""
        categories = self.boundary(3).class_index.long()
        if len(categories):
            return int(categories.bincount().argmax())
        ids = self.reference[self.reference != VOID]
        return int(np.bincount(ids.ravel(), minlength=1).argmax())


def head_ignore_index(model: Any) -> int:
    """The id of void pixels for a segmentor, which its (last) decode head has; 255 for models of other kinds."""
    while hasattr(model, 'module'):  # of wrappers that distribute a model or augment its tests
        model = model.module
    head = getattr(model, 'decode_head', None)
    return getattr(head[-1] if isinstance(head, nn.ModuleList) else head, 'ignore_index', 255)


class Line(NamedTuple):
    """Contiguous pixels of a row or a column: those from ``start`` up to ``stop``, ``stop`` not included."""

    is_row: bool
    index: int  # type: ignore[assignment]  # hides the method of tuple
    start: int
    stop: int

    def __str__(self) -> str:
        return f'{"row" if self.is_row else "column"} {self.index}'

    def take(self, array: np.ndarray) -> np.ndarray:
        """The line's pixels of an array (..., H, W), as (..., n)."""
        line = array[..., self.index, :] if self.is_row else array[..., self.index]
        return line[..., self.start : self.stop]

    def close_up(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """A square of ``CLOSE_UP_PX`` or of the line's length around the line, clipped to an image of this shape."""
        center = (self.index, (self.start + self.stop) // 2)
        size = max(CLOSE_UP_PX, self.stop - self.start)
        center = center if self.is_row else center[::-1]
        top, left = (
            min(max(at - size // 2, 0), max(length - size, 0)) for at, length in zip(center, shape, strict=True)
        )
        return slice(top, top + size), slice(left, left + size)


def choose_line(mask: np.ndarray) -> Line:
    """Choose the line that shows the edges of an object best, by the label alone.

    It is the one of ``LINE_PX`` pixels with the number of edges closest to ``NUM_EDGES``, of which those with another
    one less than ``EDGE_DISTANCE_PX`` away count against it; of equals it is the one closest to the image's center.
    Its edges are then moved to its middle.

    Args:
        mask (np.ndarray): The pixels of a class, (H, W) of bool.

    Returns:
        Line: A row if a row and a column are equally good.
    """
    *_, line = min(_best_line(mask, is_row) for is_row in (True, False))
    return line


def _best_line(mask: np.ndarray, is_row: bool) -> tuple[int, float, bool, Line]:
    """The best row or column: how far it is from what is wanted and from the center, and the line."""
    along = mask if is_row else mask.T
    length = min(LINE_PX, along.shape[1])
    edges = np.diff(along, axis=1, prepend=along[:, :1]).astype(np.int32)
    crowded = edges * (_sums(np.pad(edges, ((0, 0), (EDGE_DISTANCE_PX - 1,) * 2)), 2 * EDGE_DISTANCE_PX - 1) > 1)
    # The first pixel's edge is with one before the line.
    found, unwanted = (_sums(each[:, 1:], length - 1) for each in (edges, crowded))
    off = abs(found - NUM_EDGES) + unwanted
    rows, starts = np.indices(off.shape)
    far = np.hypot(rows + 0.5 - along.shape[0] / 2, starts + length / 2 - along.shape[1] / 2)
    index, start = np.unravel_index(np.lexsort((far.ravel(), off.ravel()))[0], off.shape)
    inside = start + 1 + np.flatnonzero(edges[index, start + 1 : start + length])
    center = round(inside.mean()) if len(inside) else start + length // 2
    first = min(max(center - length // 2, 0), along.shape[1] - length)
    line = Line(is_row, int(index), int(first), int(first) + length)
    return int(off[index, start]), float(far[index, start]), not is_row, line


def _sums(values: np.ndarray, length: int) -> np.ndarray:
    """Sums of every ``length`` neighbors in the rows of (H, W): (H, W - length + 1)."""
    sums = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
    return sums[:, length:] - sums[:, : sums.shape[1] - length]
