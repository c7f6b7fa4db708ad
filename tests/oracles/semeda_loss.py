"""Semantic edges, an edge network's features and the SEMEDA loss in numpy and float64, independent of the package.

Slow and meant to be read next to the definitions in the docstrings of the package.
"""

import numpy as np

from tests.oracles.cpg_loss import boundary


def shifted(maps, v, u):
    """maps (F, H, W) read at (row + v, column + u), 0 outside."""
    _, height, width = maps.shape
    result = np.zeros_like(maps)
    for i in range(height):
        for j in range(width):
            if 0 <= i + v < height and 0 <= j + u < width:
                result[:, i, j] = maps[:, i + v, j + u]
    return result


def offsets(kernel):
    radius = kernel.shape[-1] // 2
    return [(v, u) for v in range(-radius, radius + 1) for u in range(-radius, radius + 1)]


def features(probability, network):
    """The feature maps of every layer for one image (C, H, W)."""
    maps = [probability]
    for kernel, bias in network:
        radius = kernel.shape[-1] // 2
        total = np.zeros((len(kernel), *probability.shape[1:])) + bias[:, None, None]
        for v, u in offsets(kernel):
            total += np.tensordot(kernel[:, :, v + radius, u + radius], shifted(maps[-1], v, u), 1)
        maps.append(np.maximum(total, 0))
    return maps[1:]


def probability(logits, void):
    """P of one image (C, H, W), for one channel of both classes; 0 at void pixels."""
    if len(logits) == 1:
        logits = np.concatenate([np.zeros_like(logits), logits])
    exponential = np.exp(logits - logits.max(0))
    return np.where(void, 0, exponential / exponential.sum(0))


def one_hot(label, num_classes):
    """T of one image (H, W): 0 for every class where the label is none."""
    return np.stack([label == c for c in range(num_classes)]).astype(np.float64)


def semeda(logits, label, network, layers, power, upstream, ignore_index=255):
    """e (B, H, W) and the gradient of sum(upstream * e) with respect to the logits."""
    error, gradient = np.zeros(label.shape), np.zeros(logits.shape)
    for b, image in enumerate(label):
        void = image == ignore_index
        p = probability(logits[b], void)
        predicted = features(p, network)
        wanted = features(one_hot(np.where(void, -1, image), len(p)), network)
        grad = 0
        for layer in range(len(network) - 1, -1, -1):
            kernel, _ = network[layer]
            if layer in layers:
                difference = predicted[layer] - wanted[layer]
                factor = np.where(void, 0, 1) / (len(difference) * len(layers))
                error[b] += factor * (np.abs(difference) ** power).sum(0)
                slope = np.sign(difference) if power == 1 else 2 * difference
                grad = grad + upstream[b] * factor * slope
            grad = grad * (predicted[layer] > 0)
            radius = kernel.shape[-1] // 2
            grad = sum(
                np.tensordot(kernel[:, :, v + radius, u + radius].T, shifted(grad, -v, -u), 1)
                for v, u in offsets(kernel)
            )
        grad = np.where(void, 0, grad)
        grad = p * (grad - (p * grad).sum(0))
        gradient[b] = grad[-len(logits[b]) :]
    return error, gradient


def semantic_edges(label, num_classes, ignore_index=255):
    """Edges (B, C, H, W) and counted pixels (B, H, W) from the boundary entries of the CPG loss's oracle."""
    batch, height, width = label.shape
    edges = np.zeros((batch, num_classes, height, width), bool)
    for b, c, _, i, j in boundary(label, 3, num_classes, ignore_index):
        edges[b, c, i, j] = True
    counted = np.ones(label.shape, bool)
    for b, i, j in np.argwhere(label == ignore_index):
        counted[b, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = False
    return edges, counted


def balanced_bce(logits, edges, counted):
    total = []
    for kind in (True, False):
        errors = [
            np.log1p(np.exp(-z if kind else z))
            for z, edge, count in zip(
                logits.ravel(), edges.ravel(), np.broadcast_to(counted[:, None], edges.shape).ravel(), strict=True
            )
            if count and edge == kind
        ]
        total.append(np.mean(errors) if errors else 0)
    return sum(total) / 2
