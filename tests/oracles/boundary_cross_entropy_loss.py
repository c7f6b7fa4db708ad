"""Cross-entropy near boundaries and its gradient as plain loops in float64, independent of the package."""

import numpy as np

from tests.oracles.cpg_loss import boundary, probability


def band(label, width_px, num_classes, ignore_index=255, ignore_policy='exclude'):
    """The pixels that are counted: a set of (image, row, column)."""
    entries = boundary(label, 3, max(num_classes, 2), ignore_index, ignore_policy)
    near = range(1 - width_px, width_px)
    pixels = {(b, i + v, j + u) for b, _, _, i, j in entries for v in near for u in near}
    batch, height, width = label.shape
    inside = {(b, i, j) for b in range(batch) for i in range(height) for j in range(width)}
    return {p for p in pixels & inside if label[p] != ignore_index}


def cross_entropy(logits, label, pixels, class_weight=None, upstream=None):
    """e (B, H, W), and the gradient of sum(upstream * e) with respect to the logits."""
    p = probability(logits, use_sigmoid=False)
    error, gradient = np.zeros(label.shape), np.zeros_like(p)
    upstream = np.ones_like(error) if upstream is None else upstream
    for b, i, j in pixels:
        c = int(label[b, i, j])
        binary = p.shape[1] == 1
        factor = 1.0 if class_weight is None else class_weight[0 if binary else c]
        true = np.array([c]) if binary else np.eye(p.shape[1])[c]
        right = (p[b, 0, i, j] if c else 1 - p[b, 0, i, j]) if binary else p[b, c, i, j]
        error[b, i, j] = -factor * np.log(right)
        gradient[b, :, i, j] = upstream[b, i, j] * factor * (p[b, :, i, j] - true)
    return error, gradient
