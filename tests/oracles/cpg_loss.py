"""The CPG loss as plain loops over exact fractions and float64, independent of the package.

Slow and meant to be read next to the definition: Eq. numbers are those of arXiv 2404.06704.
"""

from fractions import Fraction

import numpy as np


def kernels(ksize):
    """S_x and S_y of Eq. 8 and 9 as {(row offset, column offset): Fraction}."""
    radius = ksize // 2
    offsets = [(v, u) for v in range(-radius, radius + 1) for u in range(-radius, radius + 1)]
    kernel_x = {(v, u): Fraction(u, u * u + v * v) if (v, u) != (0, 0) else Fraction(0) for v, u in offsets}
    kernel_y = {(v, u): kernel_x[u, v] for v, u in offsets}
    return kernel_x, kernel_y


def probability(logits, use_sigmoid):
    """Eq. 12, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    if use_sigmoid or logits.shape[1] == 1:
        return 1 / (1 + np.exp(-logits))
    exponential = np.exp(logits - logits.max(1, keepdims=True))
    return exponential / exponential.sum(1, keepdims=True)


def boundary(label, ksize, num_classes, ignore_index=255, ignore_policy='exclude'):
    """Boundary entries M and their G (Eq. 5, 10, 11, 13): {(image, class, direction, row, column): Fraction}."""
    entries = {}
    batch, height, width = label.shape
    radius = ksize // 2
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                window = {
                    (v, u): int(label[b, min(max(i + v, 0), height - 1), min(max(j + u, 0), width - 1)])
                    for v in range(-radius, radius + 1)
                    for u in range(-radius, radius + 1)
                }
                void = ignore_index in window.values() if ignore_policy == 'exclude' else label[b, i, j] == ignore_index
                if void:
                    continue
                for c in set(window.values()) - {ignore_index}:
                    for direction, kernel in enumerate(kernels(ksize)):
                        gradient = sum(kernel[offset] for offset, label_id in window.items() if label_id == c)
                        channel = c - 1 if num_classes == 1 else c
                        if gradient != 0 and channel >= 0:
                            entries[b, channel, direction, i, j] = gradient
    return entries


def squared_error(logits, entries, ksize, use_sigmoid=False, class_weight=None, upstream=None):
    """e (B, H, W) of Eq. 14 and 15, and the gradient of sum(upstream * e) with respect to the logits.

    The third value is the gradient's size before its terms cancel, which rounding errors are proportional to.
    """
    p = probability(logits, use_sigmoid)
    batch, num_classes, height, width = p.shape
    radius = ksize // 2
    error = np.zeros((batch, height, width))
    grad_p = np.zeros_like(p)
    upstream = np.ones_like(error) if upstream is None else upstream
    for (b, c, direction, i, j), gradient in entries.items():
        kernel = kernels(ksize)[direction]
        pixels = [
            (float(kernel[v, u]), min(max(i + v, 0), height - 1), min(max(j + u, 0), width - 1))
            for v in range(-radius, radius + 1)
            for u in range(-radius, radius + 1)
        ]
        difference = sum(s * p[b, c, y, x] for s, y, x in pixels) - float(gradient)
        factor = 1.0 if class_weight is None else class_weight[c]
        error[b, i, j] += factor * difference**2
        for s, y, x in pixels:
            grad_p[b, c, y, x] += upstream[b, i, j] * factor * 2 * difference * s
    if use_sigmoid or num_classes == 1:
        return error, grad_p * p * (1 - p), np.abs(grad_p) * p
    size = p * (np.abs(grad_p) + (p * np.abs(grad_p)).sum(1, keepdims=True))
    return error, p * (grad_p - (p * grad_p).sum(1, keepdims=True)), size
