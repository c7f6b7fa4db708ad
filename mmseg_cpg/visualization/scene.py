"""Data of the figures: an image, its label, predictions, and the line and close-up to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cpg.ops import BoundaryTargets, boundary_targets
from mmseg_cpg.ops.cpg.dense import probability_gradient
from mmseg_cpg.ops.cpg.sobel import sobel_numerators
from mmseg_cpg.structures import names_by_id

VOID = -1
BACKGROUND_COLOR = (0, 0, 0)
LINE_PX = 64
NUM_EDGES = 4
EDGE_DISTANCE_PX = 4
CLOSE_UP_PX = 96


class Prediction(NamedTuple):
    """The prediction of a model.

    Attributes:
        name (str): Name of the model.
        label (np.ndarray): Predicted classes, (H, W).
        probability (np.ndarray): Probabilities, (C, H, W) float32 in [0, 1]; two classes for binary models.
    """

    name: str
    label: np.ndarray
    probability: np.ndarray

    @classmethod
    def from_sample(cls, name: str, sample: SegDataSample) -> Prediction:
        """The prediction in a data sample. ``seg_logits`` with one channel are already the sigmoid."""
        logits = sample.seg_logits.data.float().cpu()
        probability = torch.cat([1 - logits, logits]) if len(logits) == 1 else logits.softmax(0)
        return cls(name, sample.pred_sem_seg.data[0].long().cpu().numpy(), probability.numpy())

    def gradient(self, class_index: int, ksize: int) -> np.ndarray:
        """Magnitude of the gradient of the probability of a class, (H, W) float32, with kernels of maximum 1."""
        probability = torch.from_numpy(self.probability[None, class_index, None])
        return probability_gradient(probability, ksize)[0, 0].norm(dim=0).numpy()


class Scene(NamedTuple):
    """An image with its label and predictions.

    Attributes:
        image (np.ndarray): RGB, (H, W, 3) uint8.
        label (np.ndarray, optional): Class ids or ``ignore_index``, (H, W); None without ground truth.
        predictions (Sequence[Prediction]): Predictions of one or more models.
        classes (Sequence[str]): Names of the classes.
        palette (Sequence[Sequence[int]]): Colors of the classes, RGB in [0, 255].
        ignore_index (int): Id of void pixels. Defaults to 255.
        ignore_policy (str): Void policy of the boundary, see :class:`~mmseg_cpg.CPGLoss`. Defaults to 'exclude'.
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
        """The label with ``VOID`` at void pixels (whose id may be that of a class), or else the first prediction."""
        if self.label is None:
            return self.predictions[0].label
        return np.where(self.label == self.ignore_index, VOID, self.label.astype(int))

    def boundary(self, ksize: int) -> BoundaryTargets:
        """The boundary of the label (or of the first prediction) in the CPG loss."""
        return boundary_targets(self.reference, ksize, ignore_index=VOID, ignore_policy=self.ignore_policy)

    def label_gradient(self, class_index: int, ksize: int) -> np.ndarray:
        """Magnitude of the gradient of a class in the label, (H, W) float32, 0 where the CPG loss excludes it."""
        targets = self.boundary(ksize)
        entry = targets.class_index == class_index
        gradient = np.zeros(self.reference.shape, np.float32)
        magnitude = targets.edge_true[:, entry].float().norm(dim=0) / sobel_numerators(ksize)[1]
        gradient.ravel()[targets.pixel[entry].numpy()] = magnitude.numpy()
        return gradient

    def main_class(self) -> int:
        """The class with the most boundary entries, or without a boundary the most frequent one."""
        class_ids = self.boundary(3).class_index.long()
        if len(class_ids):
            return int(class_ids.bincount().argmax())
        ids = self.reference[self.reference != VOID]
        return int(np.bincount(ids.ravel(), minlength=1).argmax())


def head_ignore_index(model: Any) -> int:
    """``ignore_index`` of the (last) decode head of a segmentor; 255 for other models."""
    while hasattr(model, 'module'):  # wrappers for distributed training and test-time augmentation
        model = model.module
    head = getattr(model, 'decode_head', None)
    return getattr(head[-1] if isinstance(head, nn.ModuleList) else head, 'ignore_index', 255)


def names_and_colors(meta: Mapping[str, Any]) -> tuple[tuple[str, ...], Sequence[Sequence[int]]]:
    """Names and colors of the class ids of a dataset, from its metainfo; black for the background of a single class."""
    names = tuple(names_by_id(meta['classes']))
    palette = meta['palette']
    return names, [BACKGROUND_COLOR] * (len(names) - len(meta['classes'])) + [*palette]


class Line(NamedTuple):
    """Contiguous pixels of a row or column, in [``start``, ``stop``)."""

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
        """A square around the line, at least ``CLOSE_UP_PX`` or the line's length wide, clipped to the image."""
        center = (self.index, (self.start + self.stop) // 2)
        size = max(CLOSE_UP_PX, self.stop - self.start)
        center = center if self.is_row else center[::-1]
        top, left = (
            min(max(at - size // 2, 0), max(length - size, 0)) for at, length in zip(center, shape, strict=True)
        )
        return slice(top, top + size), slice(left, left + size)


def choose_line(mask: np.ndarray) -> Line:
    """Choose the line that shows the edges of an object best, from the label alone.

    Among lines of ``LINE_PX`` pixels, it has the number of edges closest to ``NUM_EDGES``, with a penalty for edges
    less than ``EDGE_DISTANCE_PX`` apart; ties are resolved by the distance from the image center. The line is then
    shifted to center its edges.

    Args:
        mask (np.ndarray): Pixels of a class, (H, W) bool.

    Returns:
        Line: A row if a row and a column are equally good.
    """
    *_, line = min(_best_line(mask, is_row) for is_row in (True, False))
    return line


def _best_line(mask: np.ndarray, is_row: bool) -> tuple[int, float, bool, Line]:
    """The best row or column: its penalty, its distance from the center, whether it is a column, and the line."""
    along = mask if is_row else mask.T
    length = min(LINE_PX, along.shape[1])
    edges = np.diff(along, axis=1, prepend=along[:, :1]).astype(np.int32)
    crowded = edges * (_sums(np.pad(edges, ((0, 0), (EDGE_DISTANCE_PX - 1,) * 2)), 2 * EDGE_DISTANCE_PX - 1) > 1)
    # Without the edge between the first pixel and the one before the line.
    found, num_crowded = (_sums(each[:, 1:], length - 1) for each in (edges, crowded))
    penalty = abs(found - NUM_EDGES) + num_crowded
    rows, starts = np.indices(penalty.shape)
    distance = np.hypot(rows + 0.5 - along.shape[0] / 2, starts + length / 2 - along.shape[1] / 2)
    index, start = np.unravel_index(np.lexsort((distance.ravel(), penalty.ravel()))[0], penalty.shape)
    inside = start + 1 + np.flatnonzero(edges[index, start + 1 : start + length])
    center = round(inside.mean()) if len(inside) else start + length // 2
    first = min(max(center - length // 2, 0), along.shape[1] - length)
    line = Line(is_row, int(index), int(first), int(first) + length)
    return int(penalty[index, start]), float(distance[index, start]), not is_row, line


def _sums(values: np.ndarray, length: int) -> np.ndarray:
    """Sums over windows of ``length`` in the rows of (H, W): (H, W - length + 1)."""
    sums = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))
    return sums[:, length:] - sums[:, : sums.shape[1] - length]
