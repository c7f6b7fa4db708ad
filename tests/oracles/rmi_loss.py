"""The RMI loss as loops over pixels and regressions in float64, independent of the package.

Slow and meant to be read next to arXiv 1910.12037: the value is the paper's, -I_l, without the package's constant. The
posterior covariance M is written as what a ridge regression A of Y's points on P's leaves, where nothing cancels:
with A = S_YP (S_P + xi I)^-1,  S_Y - S_YP (S_P + xi I)^-1 S_PY = (Y - A P) (Y - A P)^T + xi A A^T.
"""

import numpy as np

PRESETS = {
    # (pooling, side, padding as a function of the side, whether matrices are means over the points, xi)
    'official': (np.argmax, 3, lambda side: side // 2, False, 5e-4),
    'paper': (None, 4, lambda side: 0, True, 1e-6),
}


def pool(plane, preset, side):
    """Downsample an (H, W) plane: the values, and of each value its weights as {(row, column): weight}."""
    pick, default, padding, *_ = PRESETS[preset]
    side = side or default
    padding = padding(side)
    rows, columns = ((pixels + 2 * padding - side) // side + 1 for pixels in plane.shape)
    values, weights = np.zeros((max(rows, 0), max(columns, 0))), {}
    for i, j in np.ndindex(values.shape):
        window = [
            (y, x)
            for y in range(i * side - padding, (i + 1) * side - padding)
            for x in range(j * side - padding, (j + 1) * side - padding)
            if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]
        ]
        if pick is not None:
            window = [window[pick([plane[place] for place in window])]]
        weights[i, j] = {place: 1 / len(window) for place in window}
        values[i, j] = sum(weight * plane[place] for place, weight in weights[i, j].items())
    return values, weights


def squares(plane, radius):
    """The places (d, n) of all squares of R x R pixels, as two index arrays; None where there is no square."""
    height, width = plane.shape[0] - radius + 1, plane.shape[1] - radius + 1
    if height < 1 or width < 1:
        return None
    corners = np.indices((height, width)).reshape(2, 1, -1)
    offsets = np.indices((radius, radius)).reshape(2, -1, 1)
    return tuple(corners + offsets)


def rmi_loss(logits, label, preset, radius=3, pool_size=None, ignore_index=255, class_weight=None):
    """The loss of each image and class (B, C), and the gradient of their sum with respect to the logits."""
    *_, mean, xi = PRESETS[preset]
    batch, num_classes, *_ = logits.shape
    loss, gradient = np.zeros((batch, num_classes)), np.zeros(logits.shape)
    for b, c in np.ndindex(batch, num_classes):
        counted = label[b] != ignore_index
        p = np.where(counted, 1 / (1 + np.exp(-np.where(counted, logits[b, c], 0))), 0)
        y = np.where(counted, label[b] == (c if num_classes > 1 else 1), 0).astype(float)
        pooled_p, weights = pool(p, preset, pool_size)
        pooled_y, _ = pool(y, preset, pool_size)
        places = squares(pooled_p, radius)
        if places is None:
            loss[b, c] = np.log(xi) / 2
            continue
        d, n = places[0].shape
        points_p, points_y = (plane[places] - plane[places].mean(1, keepdims=True) for plane in (pooled_p, pooled_y))
        n = n if mean else 1
        rows = np.concatenate([points_p.T, np.sqrt(n * xi) * np.eye(d)])
        regression = np.linalg.lstsq(rows, np.concatenate([points_y.T, np.zeros((d, d))]), rcond=None)[0].T
        rest = points_y - regression @ points_p
        posterior = rest @ rest.T / n + xi * (regression @ regression.T + np.eye(d))
        factor = 1.0 if class_weight is None else class_weight[c]
        loss[b, c] = factor * np.linalg.slogdet(posterior)[1] / (2 * d)
        # The derivative of log det(M + xi I) / 2 with respect to P's points.
        grad_points = -regression.T @ np.linalg.solve(posterior, rest) / n
        grad_points -= grad_points.mean(1, keepdims=True)
        grad_pooled = np.zeros_like(pooled_p)
        np.add.at(grad_pooled, places, factor * grad_points / d)
        for place, pixels in weights.items():
            for pixel, weight in pixels.items():
                gradient[b, c][pixel] += weight * grad_pooled[place] * p[pixel] * (1 - p[pixel])
    return loss, gradient
