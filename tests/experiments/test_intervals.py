"""Intervals against quantiles of Student's t as tables print them."""

import math

import numpy as np
import pytest

from mmseg_cpg.experiments.intervals import Estimate, estimate

# Two-sided 95 % by number of values, from any printed table (three decimals).
QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 10: 2.262}


@pytest.mark.parametrize('count', QUANTILES)
def test_the_interval_is_students(count):
    values = np.random.default_rng(count).normal(50, 3, count)
    found = estimate(values.tolist())
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    assert found.count == count
    assert found.mean == pytest.approx(mean)
    assert found.margin == pytest.approx(QUANTILES[count] * deviation / math.sqrt(count), rel=2e-4)


def test_it_covers_the_mean_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    found = [estimate(rng.normal(7, 2, 3).tolist()) for _ in range(2000)]
    covered = np.mean([abs(each.mean - 7) <= each.margin for each in found])
    # 2,000 cases vary by sqrt(0.95 * 0.05 / 2000) = 0.005; four of that.
    assert covered == pytest.approx(0.95, abs=0.02)


def test_one_value_has_no_interval_and_none_no_mean():
    assert estimate([3.0]) == Estimate(3.0, None, 1)
    assert estimate([]) is None
    assert estimate([3.0]).text(2) == '3.00'


def test_equal_values_vary_by_nothing():
    assert estimate([2.5, 2.5, 2.5]) == Estimate(2.5, 0.0, 3)


@pytest.mark.parametrize(
    ('mean', 'margin', 'expected'),
    [(1.0, 0.5, True), (-1.0, 0.5, True), (0.4, 0.5, False), (-0.4, 0.5, False), (1.0, None, False), (0.0, 0.0, False)],
)
def test_whether_zero_is_left_out(mean, margin, expected):
    assert Estimate(mean, margin, 3).excludes_zero == expected


def test_text():
    assert Estimate(59.384, 0.808, 3).text(2) == '59.38 ± 0.81'
    assert Estimate(1.352, 0.4, 3).text(1, '+') == '+1.4 ± 0.4'
    assert Estimate(-1.352, 0.4, 3).text(0, '+') == '-1 ± 0'
