"""Input, target and loss of an edge network, which learns from label maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ._morphology import dilate
from ._validation import check_label, void_mask
from .cpg.targets import boundary_targets

EDGE_KSIZE = 3


def one_hot_map(ids: Tensor, void: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The probability map of a label: 1 for a pixel's class, 0 for all classes at void pixels.

    Args:
        ids: (B, H, W) int64, in [0, num_classes), void pixels included.
        void: (B, H, W) bool.
        num_classes: Number of channels, C.
        dtype: Of the result.

    Returns:
        (B, C, H, W).
    """
    shape = (len(ids), num_classes, *ids.shape[1:])
    return torch.zeros(shape, dtype=dtype, device=ids.device).scatter_(1, ids[:, None], (~void)[:, None].to(dtype))


def semantic_edges(label: Tensor, num_classes: int, *, ignore_index: int = 255) -> tuple[Tensor, Tensor]:
    """The semantic edges of a label: for each class, the pixels where its one-hot map changes.

    A pixel may be on edges of several classes, as is usual in semantic edge detection (Yu et al., "CASENet", 2017).
    Edges are the boundary entries of :func:`~mmseg_cpg.ops.boundary_targets` for ksize 3, where the Sobel response of
    the one-hot map is non-zero: exact, none at the image border, and none in the middle of a one-pixel line. Pixels
    with void in their 3 x 3 window are not valid, since it is unknown whether they have an edge.

    Args:
        label: (B, H, W), integer, class indices in [0, num_classes) or ``ignore_index``.
        num_classes: C.
        ignore_index: Id of void pixels.

    Returns:
        The edges, (B, C, H, W) bool, and the valid pixels, (B, H, W) bool. Edges are at valid pixels only.

    Raises:
        TypeError, ValueError: As :func:`~mmseg_cpg.ops.boundary_targets`.

    Example:
        >>> edges, valid = semantic_edges(torch.tensor([[[0, 0, 0, 1, 1, 255, 255]]]), num_classes=2)
        >>> edges.int().tolist(), valid.int().tolist()
        ([[[[0, 0, 1, 1, 0, 0, 0]], [[0, 0, 1, 1, 0, 0, 0]]]], [[[1, 1, 1, 1, 0, 0, 0]]])
    """
    label = check_label(label)
    targets = boundary_targets(label, EDGE_KSIZE, ignore_index=ignore_index, num_classes=num_classes)
    image_px = label[0].numel() if len(label) else 1
    image, position = targets.pixel.long() // image_px, targets.pixel.long() % image_px
    edges = torch.zeros(len(label), num_classes, *label.shape[1:], dtype=torch.bool, device=label.device)
    edges.view(-1)[(image * num_classes + targets.class_index.long()) * image_px + position] = True
    return edges, ~dilate(void_mask(label, ignore_index), EDGE_KSIZE)


def balanced_bce(logits: Tensor, edges: Tensor, valid: Tensor) -> Tensor:
    r"""Class-balanced binary cross-entropy: edges and non-edges weigh the same, however rare edges are.

    .. math:: L = \frac{1}{2} \Big( \frac{1}{|E|} \sum_{i \in E} -\log p_i
        + \frac{1}{|N|} \sum_{i \in N} -\log (1 - p_i) \Big)

    with E the edge entries and N all other entries at valid pixels, over all classes and images of the batch. It is
    the balanced loss of HED (Xie & Tu 2015) up to a factor; here the factor does not depend on how rare edges are.

    Args:
        logits: (B, C, H, W), floating point.
        edges: (B, C, H, W) bool, at valid pixels only.
        valid: (B, H, W) bool.

    Returns:
        Scalar. An empty set contributes 0.
    """
    error = F.binary_cross_entropy_with_logits(logits, edges.to(logits.dtype), reduction='none')
    others = valid[:, None] & ~edges
    # torch.where, since the error may be NaN at other pixels.
    means = [torch.where(part, error, 0).sum() / part.sum().clamp(min=1) for part in (edges, others)]
    return (means[0] + means[1]) / 2
