"""The locally adaptive loss as plain loops in float64, independent of the package.

Slow and meant to be read next to the definition: Eq. numbers are those of arXiv 1802.08290.
"""

import numpy as np

EPSILON = 1e-5  # of the variance: our choice, the paper has none


def standard_scores(logits):
    """x of section 3.1 for (C,) logits, and 1 / deviation."""
    mean = sum(logits) / len(logits)
    variance = sum((logits - mean) ** 2) / len(logits)
    return (logits - mean) / (variance + EPSILON) ** 0.5, (variance + EPSILON) ** -0.5


def same_class_neighbors(label, i, j, ksize):
    """[(row, column, omega)] of the pixels of the window around (i, j) that have its class (Eq. 2)."""
    radius = ksize // 2
    return [
        (i + v, j + u, 2.0 ** (1 - max(abs(u), abs(v))))
        for v in range(-radius, radius + 1)
        for u in range(-radius, radius + 1)
        if 0 <= i + v < label.shape[0] and 0 <= j + u < label.shape[1] and label[i + v, j + u] == label[i, j]
    ]


def local_errors(logits, label, ksize, stride=1, ignore_index=255, upstream=None):
    """L^S (Eq. 4) of every center, 0 at void ones, and the gradient of sum(upstream * L^S) with respect to logits.

    Args:
        logits: (B, C, H, W).
        label: (B, H, W).
        upstream: As the errors, (B, ceil(H / stride), ceil(W / stride)).
    """
    batch, _, height, width = logits.shape
    logits = np.where((label == ignore_index)[:, None], 0, np.asarray(logits, dtype=np.float64))
    error = np.zeros((batch, -(-height // stride), -(-width // stride)))
    upstream = np.ones_like(error) if upstream is None else upstream
    gradient = np.zeros_like(logits)
    for b in range(batch):
        x, grad_x = np.zeros_like(logits[b]), np.zeros_like(logits[b])
        inverse_deviation = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                x[:, i, j], inverse_deviation[i, j] = standard_scores(logits[b, :, i, j])
        for i in range(0, height, stride):
            for j in range(0, width, stride):
                y = label[b, i, j]
                if y == ignore_index:
                    continue
                neighbors = same_class_neighbors(label[b], i, j, ksize)
                f = sum(omega * x[:, row, column] for row, column, omega in neighbors) / len(neighbors)
                exponential = np.exp(f - f.max())
                # log(1 + the others / own), which keeps its digits where the prediction is right.
                others = np.delete(exponential, y).sum() / exponential[y]
                error[b, i // stride, j // stride] = np.log1p(others) if np.isfinite(others) else f.max() - f[y]
                grad_f = exponential / exponential.sum()
                grad_f[y] -= 1
                grad_f *= upstream[b, i // stride, j // stride] / len(neighbors)
                for row, column, omega in neighbors:
                    grad_x[:, row, column] += omega * grad_f
        for i in range(height):
            for j in range(width):
                g, scores = grad_x[:, i, j], x[:, i, j]
                gradient[b, :, i, j] = inverse_deviation[i, j] * (g - g.mean() - scores * (g * scores).mean())
    return error, gradient


def loss(logits, label, ksize, stride=1, power=3, ignore_index=255, weight=None):
    """L^AD (Eq. 5) of each image, None for those without a valid center; the gradient of their mean."""
    error, _ = local_errors(logits, label, ksize, stride, ignore_index)
    centers = label[:, ::stride, ::stride]
    weight = np.ones(label.shape) if weight is None else weight
    weight = weight[:, ::stride, ::stride]
    values, upstream = [], np.zeros_like(error)
    for b in range(len(label)):
        count = (centers[b] != ignore_index).sum()
        if count == 0:
            values.append(None)
            continue
        values.append((((weight[b] * error[b]) ** power).sum() / count) ** (1 / power))
        if values[-1] > 0:
            # The true derivative of Eq. 5; Eq. 7 has a sum too many.
            upstream[b] = weight[b] * (weight[b] * error[b] / values[-1]) ** (power - 1) / count
    _, gradient = local_errors(logits, label, ksize, stride, ignore_index, upstream)
    return values, gradient / max(sum(value is not None for value in values), 1)
