"""Drawing images from a set so that the classes' shares of the pixels are those of another set."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit


def class_shares(counts: np.ndarray) -> np.ndarray:
    """Return each class's share of all labelled pixels, (C,), from pixel counts by image and class, (N, C)."""
    totals = counts.sum(axis=0, dtype=float)
    return totals / totals.sum()


def draw_probabilities(counts: np.ndarray, shares: np.ndarray, size: int) -> np.ndarray:
    """Find how likely each image must be in a draw, for the draw to have the given class shares in expectation.

    Of all probabilities p in [0, 1] with Σp = ``size`` whose expected pixel counts Σ p·counts are in proportion to
    ``shares``, these have the largest entropy, i.e. they prefer no image without need:
    p = sigmoid(a + θ·x), x being the image's counts minus ``shares`` of its labelled pixels. a and θ minimise the
    convex dual Σ log(1 + exp(a + θ·x)) − a·size.

    Args:
        counts (np.ndarray): (N, C), labelled pixels by image and class.
        shares (np.ndarray): (C,), non-negative, sum 1.
        size (int): Number of images in a draw, at most N.

    Returns:
        np.ndarray: (N,) in [0, 1]. Where no probabilities reach ``shares``, those that came closest:
        check ``class_shares(p[:, None] * counts)``.
    """
    surplus = counts - shares * counts.sum(axis=1, keepdims=True)
    scale = surplus.std(axis=0)
    # The surpluses of all classes sum to 0: one of them follows from the others.
    used = np.flatnonzero(scale > 0)[:-1]
    features = np.column_stack([np.ones(len(counts)), surplus[:, used] / scale[used]])
    wanted = np.zeros(features.shape[1])
    wanted[0] = size

    def dual(parameters):
        activation = features @ parameters
        gradient = features.T @ expit(activation) - wanted
        return np.logaddexp(0, activation).sum() - wanted @ parameters, gradient

    def curvature(parameters):
        probabilities = expit(features @ parameters)
        return features.T @ (features * (probabilities * (1 - probabilities))[:, None])

    start = np.zeros(features.shape[1])
    start[0] = logit(min(size / len(counts), 1 - 1e-9))
    options = dict(gtol=1e-6 * size, maxiter=200)  # about 20 where the shares can be reached
    solution = minimize(dual, start, jac=True, hess=curvature, method='trust-exact', options=options)
    probabilities = expit(features @ solution.x)
    return np.minimum(probabilities * (size / probabilities.sum()), 1)


def draw(probabilities: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw images without repetition, each with its probability (systematic sampling of a random order).

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
