"""The probabilities against a general solver, and draws against the probabilities."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear, minimize
from scipy.special import entr

from mmseg_cpg.datasets.samplers.class_shares import class_shares, draw, draw_probabilities


def make_counts(num_images, num_classes, seed):
    rng = np.random.default_rng(seed)
    counts = rng.gamma(1, 1000, (num_images, num_classes)).astype(int)
    wanted = class_shares(counts) * rng.uniform(0.8, 1.25, num_classes)
    return counts, wanted / wanted.sum()


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize(('num_images', 'num_classes', 'size'), [(200, 19, 60), (2000, 19, 149), (50, 2, 40)])
def test_shares_are_reached(num_images, num_classes, size, seed):
    counts, shares = make_counts(num_images, num_classes, seed)
    probabilities = draw_probabilities(counts, shares, size)
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert probabilities.sum() == pytest.approx(size)
    assert np.abs(class_shares(counts) / shares - 1).max() > 0.01
    np.testing.assert_allclose(class_shares(probabilities[:, None] * counts), shares, rtol=1e-3)


def test_a_set_that_has_the_shares_already_is_drawn_from_evenly():
    counts, _ = make_counts(100, 5, 0)
    np.testing.assert_allclose(draw_probabilities(counts, class_shares(counts), 30), 0.3, rtol=1e-6)


def test_entropy_is_the_largest_possible():
    counts, shares = make_counts(12, 3, 0)
    size = 5
    surplus = (counts - shares * counts.sum(axis=1, keepdims=True)) / counts.mean()
    solution = minimize(
        lambda p: -(entr(p) + entr(1 - p)).sum(),
        np.full(12, size / 12),
        method='SLSQP',
        bounds=[(1e-9, 1 - 1e-9)] * 12,
        constraints=dict(type='eq', fun=lambda p: np.array([p.sum() - size, *(p @ surplus)[:-1]])),
        options=dict(ftol=1e-12, maxiter=500),
    )
    assert solution.success
    np.testing.assert_allclose(draw_probabilities(counts, shares, size), solution.x, atol=1e-4)


@pytest.mark.parametrize('seed', range(3))
def test_shares_out_of_reach_are_approached_as_far_as_can_be(seed):
    counts, shares = make_counts(60, 4, seed)
    shares = shares * [10, 1, 1, 1] / (shares @ [10, 1, 1, 1])
    size = 30
    probabilities = draw_probabilities(counts, shares, size)
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert probabilities.sum() == pytest.approx(size, rel=1e-5)
    surplus = counts - shares * counts.sum(axis=1, keepdims=True)
    surplus = surplus / surplus.std(axis=0)
    sum_weight = 1e4
    least = lsq_linear(
        np.vstack([surplus.T, np.full(60, sum_weight)]), [0] * 4 + [sum_weight * size], bounds=(0, 1), tol=1e-12
    )
    distance = np.linalg.norm(least.x @ surplus)
    assert distance > 1
    assert np.linalg.norm(probabilities @ surplus) < 1.01 * distance


def test_classes_that_no_image_has_do_not_disturb():
    counts, shares = make_counts(100, 4, 1)
    padded = np.insert(counts, 2, 0, axis=1)
    expected = draw_probabilities(counts, shares, 20)
    np.testing.assert_allclose(draw_probabilities(padded, np.insert(shares, 2, 0), 20), expected, rtol=1e-4)


def test_each_image_is_drawn_as_often_as_its_probability_says():
    counts, shares = make_counts(30, 3, 2)
    size, draws = 12, 4000
    probabilities = draw_probabilities(counts, shares, size)
    rng = np.random.default_rng(0)
    drawn = [draw(probabilities, size, rng) for _ in range(draws)]
    assert all(len(np.unique(indices)) == size for indices in drawn)
    frequency = np.bincount(np.concatenate(drawn), minlength=30) / draws
    deviation = np.sqrt(probabilities * (1 - probabilities) / draws)
    assert np.ptp(probabilities) > 0.1
    assert np.abs((frequency - probabilities) / deviation).max() < 4


def test_a_draw_of_everything_has_everything():
    assert sorted(draw(np.ones(7), 7, np.random.default_rng(0))) == list(range(7))
