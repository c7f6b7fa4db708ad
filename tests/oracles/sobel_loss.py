"""The terms of the Sobel loss as plain loops, independent of the package; cpg_loss.squared_error adds them up."""

from fractions import Fraction

from tests.oracles.cpg_loss import kernels


def entries(label, ksize, num_classes, ignore_index=255):
    """G of every counted pixel, class and direction: {(image, class, direction, row, column): Fraction}."""
    found = {}
    batch, height, width = label.shape
    radius = ksize // 2
    offsets = [(v, u) for v in range(-radius, radius + 1) for u in range(-radius, radius + 1)]
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                window = {
                    (v, u): int(label[b, min(max(i + v, 0), height - 1), min(max(j + u, 0), width - 1)])
                    for v, u in offsets
                }
                if ignore_index in window.values():
                    continue
                for channel in range(num_classes):
                    c = 1 if num_classes == 1 else channel
                    for direction, kernel in enumerate(kernels(ksize)):
                        inside = (kernel[offset] for offset, label_id in window.items() if label_id == c)
                        found[b, channel, direction, i, j] = sum(inside, Fraction(0))
    return found
