"""Means of a few measurements with confidence intervals."""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import t

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean, half the width of its interval (None for a single value), and the number of values."""

    mean: float
    margin: float | None
    count: int  # type: ignore[assignment]  # hides the method of tuple

    def text(self, digits: int, sign: str = '') -> str:
        """The estimate as text: '59.38 ± 0.81', with ``sign='+'`` '+1.35 ± 0.40', for a single value '59.38'."""
        margin = '' if self.margin is None else f' ± {self.margin:.{digits}f}'
        return f'{self.mean:{sign}.{digits}f}{margin}'

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it excludes zero."""
        return self.margin is not None and abs(self.mean) > self.margin


def estimate(values: list[float]) -> Estimate | None:
    """Estimate the mean of the distribution of some values; None without values.

    The interval is Student's: mean ± t · s / √n, with the quantile t of n - 1 degrees of freedom. It covers the true
    mean in 95 % of all cases if the values are independent and roughly normal.
    """
    count = len(values)
    if count == 0:
        return None
    if count == 1:
        return Estimate(values[0], None, 1)
    quantile = t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return Estimate(fmean(values), float(quantile) * stdev(values) / math.sqrt(count), count)
