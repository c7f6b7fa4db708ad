"""The boundary F1 loss and its gradient as plain loops in float64, independent of the package."""

import numpy as np

from tests.oracles.cpg_loss import probability


def boundary_f1_loss(logits, label, theta0=3, theta=5, ignore_index=255):
    """Loss, and its gradient with respect to the logits."""
    y = probability(logits, use_sigmoid=False)
    batch, num_classes, height, width = y.shape
    grad_y, scores = np.zeros_like(y), []
    for b in range(batch):
        counted = [(i, j) for i in range(height) for j in range(width) if label[b, i, j] != ignore_index]
        for channel in range(num_classes):
            true = {p: float(label[b][p] == (1 if num_classes == 1 else channel)) for p in counted}
            pred = {p: y[b, channel][p] for p in counted}
            gt, _ = _boundary(true, theta0)
            if not any(gt.values()):
                continue
            pd, lowest = _boundary(pred, theta0)
            gt_ext, _ = _extended(gt, theta)
            pd_ext, highest = _extended(pd, theta)
            hit_pd, all_pd = sum(pd[p] * gt_ext[p] for p in counted), sum(pd.values())
            hit_gt, all_gt = sum(gt[p] * pd_ext[p] for p in counted), sum(gt.values())
            precision, recall = hit_pd / all_pd if all_pd else 0, hit_gt / all_gt
            if precision + recall == 0:
                scores.append(0)
                continue
            scores.append(2 * precision * recall / (precision + recall))
            by_precision = 2 * recall**2 / (precision + recall) ** 2
            by_recall = 2 * precision**2 / (precision + recall) ** 2
            grad_pd = {p: by_precision * (gt_ext[p] / all_pd - hit_pd / all_pd**2) for p in counted}
            for p in counted:
                grad_pd[highest[p]] += by_recall * gt[p] / all_gt
            for p in counted:
                grad_y[b, channel][p] -= grad_pd[p]
                grad_y[b, channel][lowest[p]] += grad_pd[p]
    if not scores:
        return 0.0, grad_y
    grad_y /= len(scores)
    loss = 1 - sum(scores) / len(scores)
    if num_classes == 1:
        return loss, grad_y * y * (1 - y)
    return loss, y * (grad_y - (y * grad_y).sum(1, keepdims=True))


def _window(values, place, size):
    radius = size // 2
    offsets = range(-radius, radius + 1)
    return [p for p in ((place[0] + v, place[1] + u) for v in offsets for u in offsets) if p in values]


def _boundary(values, theta0):
    """y^b of every pixel, and where its window has the smallest y."""
    lowest = {p: min(_window(values, p, theta0), key=values.get) for p in values}
    return {p: values[p] - values[lowest[p]] for p in values}, lowest


def _extended(boundary, theta):
    """y^{b,ext} of every pixel, and where its window has the largest y^b."""
    highest = {p: max(_window(boundary, p, theta), key=boundary.get) for p in boundary}
    return {p: boundary[highest[p]] for p in boundary}, highest
