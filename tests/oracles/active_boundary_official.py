"""What the Active Boundary Loss's published code computes, as plain loops in float64, independent of the package.

Slow and meant to be read. The code is at github.com/wangchi95/active-boundary-loss; this is a description of it, where
``tests/oracles/active_boundary_loss.py`` is one of the paper. Images without boundary, of which the code makes nothing
sensible, count nothing.
"""

import math

import numpy as np

from .active_boundary_loss import NEIGHBORS, divergence, probability

FAR = 1e5  # beyond the image's border


def distance(label, ignore_index=255):
    """M of an image (H, W), or None without boundary: distance minus 1 in whole pixels, 0 on and next to it."""
    height, width = label.shape
    boundary = [
        (y, x)
        for y, x in np.ndindex(height, width)
        if label[y, x] == ignore_index
        or (y + 1 < height and label[y + 1, x] != label[y, x])
        or (x + 1 < width and label[y, x + 1] != label[y, x])
    ]
    if not boundary:
        return None
    far = np.zeros(label.shape)
    for y, x in np.ndindex(height, width):
        far[y, x] = max(0, math.isqrt(min((y - v) ** 2 + (x - u) ** 2 for v, u in boundary)) - 1)
    return far


def predicted_boundary(p, boundary_ratio):
    """B of a batch, (B, C, H, W): a set of pixels (b, y, x), and the smallest gap between a KL and the threshold."""
    batch, _, height, width = p.shape
    total = np.zeros((batch, height, width))
    for b, y, x in np.ndindex(batch, height, width):
        if y + 1 < height:
            total[b, y, x] += divergence(p[b, :, y, x], p[b, :, y + 1, x])
        if x + 1 < width:
            total[b, y, x] += divergence(p[b, :, y, x], p[b, :, y, x + 1])
    epsilon = 1e-5
    while (total > epsilon).sum() > height * width * boundary_ratio:
        epsilon *= 1.2
    pixels = {
        (int(b), y, x)
        for b, v, u in np.argwhere(total > epsilon)
        for y in range(v - 1, v + 2)
        for x in range(u - 1, u + 2)
        if 0 <= y < height and 0 <= x < width
    }
    return pixels, np.abs(total / epsilon - 1).min()


def active_boundary_loss(logits, label, ignore_index=255, boundary_ratio=0.01, max_distance=20.0, label_smoothing=0.2):
    """The error (B, H, W), the size of N_b, the gradient of the error's sum, and the gap around epsilon."""
    logits = np.asarray(logits, dtype=np.float64)
    p = probability(logits)
    _, height, width = label.shape
    far = [distance(image, ignore_index) for image in label]
    pixels, gap = predicted_boundary(p, boundary_ratio)
    pixels = [pixel for pixel in pixels if far[pixel[0]] is not None]
    error, gradient = np.zeros(label.shape), np.zeros_like(p)
    for b, y, x in pixels:
        places = [(y + v, x + u) for v, u in NEIGHBORS]
        near = [far[b][v, u] if 0 <= v < height and 0 <= u < width else FAR for v, u in places]
        direction = near.index(min(near))
        neighbors = [p[b, :, min(max(v, 0), height - 1), min(max(u, 0), width - 1)] for v, u in places]
        exponent = [divergence(q, p[b, :, y, x]) for q in neighbors]
        log_sum = max(exponent) + math.log(sum(math.exp(value - max(exponent)) for value in exponent))
        target = [1 - label_smoothing if k == direction else label_smoothing / 8 for k in range(8)]
        factor = min(far[b][y, x], max_distance) / max_distance
        error[b, y, x] = factor * sum(t * (log_sum - value) for t, value in zip(target, exponent, strict=True))
        for q, t, value in zip(neighbors, target, exponent, strict=True):
            slope = factor * (sum(target) * math.exp(value - log_sum) - t)  # d error / d KL
            gradient[b, :, y, x] += slope * (p[b, :, y, x] - q)
    return error, len(pixels), gradient[:, 1:] if logits.shape[1] == 1 else gradient, gap
