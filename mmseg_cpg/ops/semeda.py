"""The SEMEDA loss: compares prediction and label in the feature space of an edge network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from ._common import compute_dtype, reduce_error
from ._validation import check_avg_factor, check_factor, check_pixels, check_reduction
from .semantic_edges import one_hot_map

DISTANCES = {'l1': 1, 'l2': 2}


def edge_features(features: Tensor, network: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    """Yield the feature maps of an edge network layer by layer, so that unused ones can be freed.

    A layer is a convolution with stride 1 and zero padding, followed by ReLU. Outside the image, as at void pixels,
    the input is 0 for every class.

    Args:
        features: (B, C, H, W), the probability map.
        network: (weight, bias) of each layer, (F, F of the previous layer, k, k) with odd k, and (F,).

    Yields:
        (B, F, H, W) of each layer.
    """
    for weight, bias in network:
        features = F.conv2d(features, weight, bias, padding=weight.shape[-1] // 2).relu_()
        yield features


@torch.compiler.disable
def semeda_loss(
    logits: Tensor,
    label: Tensor,
    network: Sequence[tuple[Tensor, Tensor]],
    *,
    layers: Sequence[int] | None = None,
    distance: str = 'l2',
    ignore_index: int = 255,
    weight: Tensor | None = None,
    avg_factor: float | Tensor | None = None,
    reduction: str = 'mean',
) -> Tensor:
    r"""Semantic edge aware loss, built from the abstract of its paper alone.

    It matches prediction and label in the feature space of an edge network trained on labels:

    .. math:: L = \frac{1}{N} \sum_i e_i, \quad
        e_i = \frac{1}{|K|} \sum_{l \in K} \frac{1}{F_l} \sum_{f=1}^{F_l} d\big(\phi_{l,f,i}(P) - \phi_{l,f,i}(T)\big)

    with P = softmax(logits), T the one-hot label, :math:`\phi_l` the :math:`F_l` feature maps of the edge network's
    layer l, K the layers compared, d the square (``'l2'``) or the absolute value (``'l1'``), and N the number of
    pixels that are not void.

    Source: the abstract of Chen, Dapogny & Cord, "SEMEDA: Enhancing segmentation precision with semantic edge aware
    loss", Pattern Recognition 108, 2020 (arXiv 1905.01892): inspired by perceptual losses, prediction and label are
    matched through a proxy network trained for semantic edge detection on the labels. The rest of the paper was not
    available, so everything else is our choice: the network (convolutions with ReLU, no normalization, at full
    resolution), the layers (all hidden ones, with equal weights), the distance (the mean square, as in the perceptual
    loss of Johnson et al. 2016), the softmax, the mean over pixels, and the handling of the image border and void
    pixels. The magnitude of the loss depends on that of the network's features; ``tools/train_edge_network.py`` scales
    them to mean square 1 on labels.

    P and T are both 0 for every class at void pixels, so a perfect prediction has loss 0 near void too. Features at
    void pixels are not compared; those of other pixels are, even if void is in their receptive field.

    e at a pixel depends on all logits in the receptive field (5 x 5 pixels for two layers of 3 x 3). Time and memory
    are those of the network's convolutions at full resolution, for prediction and label: far more than cross-entropy's
    for few classes or without a GPU.

    Args:
        logits: (B, C, H, W), floating point. C = 1 is binary segmentation: P is (1 - sigmoid, sigmoid), and the
            network must have two classes. On CUDA, torch's settings for TF32 and determinism apply.
        label: (B, H, W), integer, class indices in [0, max(C, 2)) or ``ignore_index``.
        network: (weight, bias) of the edge network's layers, at least one, see :func:`edge_features`. They get
            no gradient unless they require it.
        layers: Indices into ``network`` of the layers to compare, all by default.
        distance: ``'l2'`` (squared) or ``'l1'``.
        ignore_index: Id of void pixels in the label.
        weight: (B, H, W), factor of each pixel's e.
        avg_factor: Divisor for ``'mean'`` in place of N, number or scalar tensor >= 0. Clamped to float32's
            eps, as in MMSegmentation.
        reduction: ``'none'`` gives weight * e, ``'sum'`` its sum, ``'mean'`` the sum over N (counted unweighted) or
            ``avg_factor``.

    Returns:
        Scalar, or (B, H, W) for ``reduction='none'``.

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: An argument has a wrong shape or value, or the network has another number of classes.

    Example:
        >>> logits = torch.randn(2, 19, 64, 64, requires_grad=True)
        >>> label = torch.randint(19, (2, 64, 64))
        >>> network = [(torch.randn(32, 19, 3, 3), torch.zeros(32)), (torch.randn(32, 32, 3, 3), torch.zeros(32))]
        >>> semeda_loss(logits, label, network).backward()
    """
    check_distance(distance)
    check_reduction(reduction)
    ids, void = check_pixels(logits, label, ignore_index)
    weight = check_factor('weight', weight, tuple(label.shape), logits)
    avg_factor = check_avg_factor(avg_factor, reduction, logits)
    num_classes = max(logits.shape[1], 2)
    _check_network(network, num_classes)
    layers = check_layers(layers, len(network))

    dtype, power = compute_dtype(logits), DISTANCES[distance]
    with torch.autocast(logits.device.type, enabled=False):
        network = [(kernel.to(dtype), bias.to(dtype)) for kernel, bias in network[: max(layers) + 1]]
        of_logits = edge_features(_probability(logits.to(dtype), void), network)
        of_label = edge_features(one_hot_map(ids, void, num_classes, dtype), network)
        error = torch.zeros(label.shape, dtype=dtype, device=label.device)
        for layer, (predicted, true) in enumerate(zip(of_logits, of_label, strict=True)):
            if layer in layers:
                # Unlike a sum of squares, the norm allocates no second tensor of the features' size.
                norm = torch.linalg.vector_norm(predicted - true, power, dim=1)
                error = error + norm**power / (predicted.shape[1] * len(layers))
    error = error.masked_fill(void, 0)
    return reduce_error(error, (~void).sum(), weight=weight, avg_factor=avg_factor, reduction=reduction)


def _probability(logits: Tensor, void: Tensor) -> Tensor:
    """P, (B, max(C, 2), H, W), 0 at void pixels."""
    # Masked before the softmax too: the gradient of NaN is NaN even when multiplied by 0.
    logits = logits.masked_fill(void[:, None], 0)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)  # softmax(0, z) = (1 - sigmoid(z), sigmoid(z))
    return logits.softmax(1).masked_fill(void[:, None], 0)


def _check_network(network: Sequence[tuple[Tensor, Tensor]], num_classes: int) -> None:
    """Raise ValueError unless ``network`` is a list of (weight, bias) with this number of classes."""
    layers = [[layer] if isinstance(layer, Tensor) else layer for layer in network]
    shapes = [[tuple(part.shape) for part in layer if isinstance(part, Tensor)] for layer in layers]
    if not shapes or any([len(shape) for shape in layer] != [4, 1] for layer in shapes):
        raise ValueError(f'network must be a non-empty list of (weight, bias), got tensors of shapes {shapes}')
    if shapes[0][0][1] != num_classes:
        raise ValueError(
            f'the edge network must have the {num_classes} classes of the logits, got {shapes[0][0][1]}: '
            'train it on the labels of this dataset'
        )


def check_distance(distance: str) -> None:
    """Raise ValueError unless ``distance`` is 'l1' or 'l2'."""
    if distance not in tuple(DISTANCES):  # a tuple accepts unhashable values
        raise ValueError(f'distance must be one of {tuple(DISTANCES)}, got {distance!r}')


def check_layers(layers: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    """Return the layers to compare, all for None, or raise ValueError."""
    chosen = tuple(range(num_layers) if layers is None else layers if isinstance(layers, Sequence) else ())
    are_ints = all(isinstance(layer, Integral) for layer in chosen)
    if not chosen or not are_ints or len({*chosen}) < len(chosen) or not {*chosen} <= {*range(num_layers)}:
        raise ValueError(
            f'layers must be unique indices in [0, {num_layers}) of layers of the edge network, got {layers}'
        )
    return chosen
