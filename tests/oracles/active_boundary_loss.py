"""The Active Boundary Loss as plain loops in float64, independent of the package.

Slow and meant to be read next to the definition: Eq. numbers are those of arXiv 2102.02696, as they follow each other.
"""

import math

import numpy as np

# Below, above, left, right, above right, below right, above left, below left.
NEIGHBORS = [(1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1)]


def probability(logits):
    """Softmax over the classes of (B, C, H, W), or sigmoid and complement for one class, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], 1)
    exponential = np.exp(logits - logits.max(1, keepdims=True))
    return exponential / exponential.sum(1, keepdims=True)


def divergence(p, q):
    """KL(p, q)."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def label_boundary(label, ignore_index=255):
    """Pixels (y, x) of a label (H, W) whose right or lower neighbor has another class."""
    height, width = label.shape
    pixels = set()
    for y in range(height):
        for x in range(width):
            for v, u in ((0, 1), (1, 0)):
                if y + v < height and x + u < width:
                    pair = {int(label[y, x]), int(label[y + v, x + u])}
                    if len(pair) == 2 and ignore_index not in pair:
                        pixels.add((y, x))
    return pixels


def squared_distance(label, ignore_index=255):
    """Squared Euclidean distance to the nearest boundary pixel of (H, W), as integers; infinite where there is none."""
    pixels = label_boundary(label, ignore_index)
    squared = np.full(label.shape, np.inf)
    for y, x in np.ndindex(label.shape):
        squared[y, x] = min(((y - v) ** 2 + (x - u) ** 2 for v, u in pixels), default=np.inf)
    return squared


def neighbor_divergence(p, label, ignore_index=255):
    """The larger KL of Eq. 1 at each pixel of an image, (C, H, W) and (H, W); 0 where void is involved."""
    height, width = label.shape
    largest = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for v, u in ((0, 1), (1, 0)):
                if y + v < height and x + u < width and ignore_index not in (label[y, x], label[y + v, x + u]):
                    largest[y, x] = max(largest[y, x], divergence(p[:, y, x], p[:, y + v, x + u]))
    return largest


def threshold(largest, boundary_ratio):
    """The smallest epsilon >= 1e-5 above which lie fewer than that share of the pixels."""
    values = sorted(largest.flat, reverse=True)
    candidates = [1e-5] + [value for value in values if value > 1e-5]
    return min(
        epsilon
        for epsilon in candidates
        if sum(value > epsilon for value in values) < boundary_ratio * len(values) or epsilon == values[0]
    )


def counted_pixels(p, label, boundary_ratio, ignore_index=255):
    """The pixels (y, x) of an image that the loss counts: B dilated, away from void, not on the label's boundary."""
    height, width = label.shape
    largest = neighbor_divergence(p, label, ignore_index)
    epsilon = threshold(largest, boundary_ratio)
    squared = squared_distance(label, ignore_index)
    pixels = []
    for y in range(height):
        for x in range(width):
            window = [
                (y + v, x + u) for v in (-1, 0, 1) for u in (-1, 0, 1) if 0 <= y + v < height and 0 <= x + u < width
            ]
            dilated = any(largest[pixel] > epsilon for pixel in window)
            void = any(label[pixel] == ignore_index for pixel in window)
            if dilated and not void and 0 < squared[y, x] < np.inf:
                pixels.append((y, x))
    return pixels


def direction_error(logit, neighbors, direction, factor, label_smoothing):
    """Eq. 3 and 4 of one pixel: factor * CE(D^p, D^g), its logits and its neighbors' probabilities given."""
    p = probability(logit[None, :, None, None])[0, :, 0, 0]
    exponent = [divergence(p, q) for q in neighbors]
    log_sum = max(exponent) + math.log(sum(math.exp(value - max(exponent)) for value in exponent))
    target = [1 - label_smoothing if k == direction else label_smoothing / 7 for k in range(8)]
    return factor * sum(t * (log_sum - value) for t, value in zip(target, exponent, strict=True))


def direction_gradient(logit, neighbors, direction, factor, label_smoothing):
    """The gradient of :func:`direction_error` with respect to the pixel's logits, and its size before cancellation."""
    binary = len(logit) == 1
    p = probability(logit[None, :, None, None])[0, :, 0, 0]
    exponent = np.array([divergence(p, q) for q in neighbors])
    predicted = np.exp(exponent - exponent.max())
    predicted /= predicted.sum()
    target = np.full(8, label_smoothing / 7)
    target[direction] = 1 - label_smoothing
    with np.errstate(divide='ignore'):
        log_ratio = np.array([np.where(p > 0, np.log(p) - np.log(q), 0) for q in neighbors])
    terms = factor * (predicted - target)[:, None] * p * (log_ratio - exponent[:, None])
    size = np.abs(factor * (predicted - target)[:, None]) * p * (np.abs(log_ratio) + np.abs(exponent[:, None]))
    gradient, size = terms.sum(0), size.sum(0)
    return (gradient[1:], size[1:]) if binary else (gradient, size)


def active_boundary_loss(
    logits, label, ignore_index=255, boundary_ratio=0.01, max_distance=20.0, label_smoothing=0.2, upstream=None
):
    """The error (B, H, W), the number of pixels in N_b, the gradient of sum(upstream * error), and its size."""
    logits = np.asarray(logits, dtype=np.float64)
    p = probability(logits)
    batch, height, width = label.shape
    error, count = np.zeros(label.shape), 0
    gradient, size = np.zeros_like(logits), np.zeros_like(logits)
    for b in range(batch):
        squared = squared_distance(label[b], ignore_index)
        for y, x in counted_pixels(p[b], label[b], boundary_ratio, ignore_index):
            count += 1
            inside = [
                squared[y + v, x + u] if 0 <= y + v < height and 0 <= x + u < width else np.inf for v, u in NEIGHBORS
            ]
            direction = int(np.argmin(inside))
            clamped = [(min(max(y + v, 0), height - 1), min(max(x + u, 0), width - 1)) for v, u in NEIGHBORS]
            neighbors = [p[b, :, v, u] for v, u in clamped]
            factor = min(math.sqrt(squared[y, x]), max_distance) / max_distance
            arguments = logits[b, :, y, x], neighbors, direction, factor, label_smoothing
            error[b, y, x] = direction_error(*arguments)
            scale = 1.0 if upstream is None else upstream[b, y, x]
            slope, bound = direction_gradient(*arguments)
            gradient[b, :, y, x], size[b, :, y, x] = scale * slope, abs(scale) * bound
    return error, count, gradient, size
