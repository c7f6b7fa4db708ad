"""The interface of a boundary measure, and the arithmetic of percentages."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from .label_maps import LabelMaps

Counts = dict[str, np.ndarray]


class Column(NamedTuple):
    """A column of a table with a row for each class.

    Attributes:
        title: Its title.
        values: (num_classes,), percentages, NaN if undefined.
        excluded: Percentage of the label's boundary that is excluded because void is near, None if not reported.
    """

    title: str
    values: np.ndarray
    excluded: float | None = None


class Measure(Protocol):
    """A kind of boundary score: what to count on an image, and how to turn the counts of a dataset into scores.

    Scores are percentages. A class without anything to count has the score NaN and is excluded from means.
    """

    @property
    def table_title(self) -> str:
        """Title of the table that shows the columns; measures can share a table."""

    def count(self, maps: LabelMaps) -> Counts:
        """Integer counts of an image by name. Those of several images can be added."""

    def score(self, counts: Counts, totals: Counts) -> dict[str, Any]:
        """Turn counts into scores by name.

        Args:
            counts: With a leading axis: the sums over all images for a score of the dataset, or the counts of each
                image for a mean of the scores of the images.
            totals: Sums over all images.
        """

    def metrics(self, scores: dict[str, Any]) -> dict[str, float]:
        """Select the scalars that a metric returns, from the result of :meth:`score`."""

    def columns(self, scores: dict[str, Any]) -> list[Column]:
        """Select the scores by class, from the result of :meth:`score`."""


def percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """100 part / whole, NaN where the whole is 0."""
    with np.errstate(invalid='ignore'):
        return 100 * np.true_divide(part, whole)


def excluded_percent(included: np.ndarray, total: np.ndarray) -> float:
    """The percentage of ``total`` that is not in the sum of ``included``."""
    return float(percent(total - included.sum(), total))


def mean_of_defined(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The mean of all values that are not NaN, NaN if there are none."""
    is_defined = ~np.isnan(values)
    with np.errstate(invalid='ignore'):
        return np.where(is_defined, values, 0).sum(axis) / is_defined.sum(axis)
