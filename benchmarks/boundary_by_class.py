"""Boundary measures class by class, directly from their definitions, as a reference for benchmarks.

All take (H, W) uint8 maps with void 255 in the label, and return the same counts as BoundaryMetric's functions.
"""

import cv2
import numpy as np

VOID = 255


def boundary_iou(pred, label, num_classes, width_px):
    """An erosion of each class's mask, as in the code of Cheng et al."""
    square = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    far = cv2.dilate((label == VOID).view(np.uint8), square) == 0
    counts = np.zeros((3, num_classes), int)
    for class_index in range(num_classes):
        bands = []
        for labels in (pred, label):
            mask = (labels == class_index).view(np.uint8)
            inner = cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
            bands.append((mask > inner) & far)
        counts[:, class_index] = [np.count_nonzero(each) for each in (bands[0] & bands[1], *bands)]
    return counts


def trimaps(pred, label, num_classes, widths_px):
    """A distance transform of each class's mask."""
    distance = np.full(label.shape, np.inf)
    for class_index in np.unique(label):
        inside = label == class_index
        if not inside.all():
            distance[inside] = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_C, 3)[inside]
    counts = np.zeros((len(widths_px), 3, num_classes), int)
    for row, width_px in zip(counts, widths_px, strict=True):
        band = (distance <= width_px) & (label != VOID)
        for place, classes in enumerate((label[band & (pred == label)], pred[band], label[band])):
            row[place] = np.bincount(classes, minlength=num_classes)
    return counts


def fscore(pred, label, num_classes, tolerances_px):
    """A dilation of each class's boundary by a disk for each tolerance, as in the code of Perazzi et al."""
    known = (label != VOID).view(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    disks = [disk(tolerance_px) for tolerance_px in tolerances_px]
    far = [cv2.dilate(1 - known, each) == 0 for each in disks]
    counts = np.zeros((len(tolerances_px), 4, num_classes), int)
    for class_index in range(num_classes):
        masks = [(labels == class_index).view(np.uint8) & known for labels in (pred, label)]
        edges = [mask & cv2.dilate(known - mask, cross) for mask in masks]
        for row, each, counted in zip(counts, disks, far, strict=True):
            for place, (edge, other) in enumerate((edges, edges[::-1])):
                row[2 * place, class_index] = np.count_nonzero(edge & cv2.dilate(other, each) & counted)
                row[2 * place + 1, class_index] = np.count_nonzero(edge & counted)
    return counts


def disk(radius_px):
    y, x = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    return (y**2 + x**2 <= radius_px**2).astype(np.uint8)
