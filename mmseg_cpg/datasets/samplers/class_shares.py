"""Drawing images from a dataset so that the class frequencies match those of another dataset."""

from __future__ import annotations

import numpy as np

# Small enough to match class shares to a relative error far below 1 %.
SLACK = 1e-5


def class_shares(counts: np.ndarray) -> np.ndarray:
    """Return the share of each class in all labeled pixels, (C,), from pixel counts by image and class, (N, C)."""
    totals = counts.sum(axis=0, dtype=float)
    return totals / totals.sum()


def draw_probabilities(counts: np.ndarray, shares: np.ndarray, size: int) -> np.ndarray:
    """Find the probability of each image such that a draw has the given class shares in expectation.

    Of all probabilities p in [0, 1] with Σp = ``size`` whose expected pixel counts Σ p·counts are proportional to
    ``shares``, these have the largest entropy, i.e. they favor images no more than necessary:
    p = sigmoid(a + θ·x), where x is an image's counts minus ``shares`` of its labeled pixels, in units of their
    standard deviation. a and θ minimize the convex dual Σ log(1 + exp(a + θ·x)) − a·size + SLACK·size·|θ|²/2. The last
    term is negligible if the shares can be reached, and minimizes Σ p·x otherwise.

    Args:
        counts (np.ndarray): (N, C), labeled pixels by image and class.
        shares (np.ndarray): (C,), non-negative, sum 1.
        size (int): Number of images in a draw, less than N.

    Returns:
        np.ndarray: (N,) in [0, 1], sum ``size``.
    """
    # Imported here, so that importing mmseg_cpg does not load scipy.
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    surplus = counts - shares * counts.sum(axis=1, keepdims=True)
    scale = surplus.std(axis=0)
    features = np.column_stack([np.ones(len(counts)), surplus[:, scale > 0] / scale[scale > 0]])
    target = np.zeros(features.shape[1])
    target[0] = size
    slack = np.full(features.shape[1], SLACK * size)
    slack[0] = 0

    def dual(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        activation = features @ parameters
        value = np.logaddexp(0, activation).sum() - target @ parameters + slack @ parameters**2 / 2
        return value, features.T @ expit(activation) - target + slack * parameters

    start = np.zeros(features.shape[1])
    start[0] = logit(size / len(counts))
    # About ten iterations if the shares can be reached, otherwise hundreds.
    options = dict(gtol=1e-7 * size, ftol=0, maxiter=5000, maxfun=10000)
    solution = minimize(dual, start, jac=True, method='L-BFGS-B', options=options)
    return expit(features @ solution.x)


def draw(probabilities: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images without replacement, each with its probability (systematic sampling in random order).

    Args:
        probabilities (np.ndarray): (N,) in [0, 1], sum ``size``.
        size (int): Number of images in the draw.
        rng (np.random.Generator): Source of randomness.

    Returns:
        np.ndarray: (size,) indices, in random order.
    """
    order = rng.permutation(len(probabilities))
    edges = np.cumsum(probabilities[order])
    points = (np.arange(size) + rng.random()) * (edges[-1] / size)
    return order[np.searchsorted(edges, points, side='right')]
