"""GraDNet's gradient layer (Jia et al. 2022, section 2.1, Algorithms 1 and 2) in closed form.

P: one channel of a feature map; P_m: its 3 x 3 windows with stride l = 1; g_m, r_m: results of Algorithms 1 and 2;
lambda: ``threshold``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ._morphology import window_extremum
from ._validation import check_number

EDGE_SIDES = ('above', 'below')
_WINDOW_PX = 3


def check_threshold(threshold: float) -> None:
    """Raise TypeError unless ``threshold`` is a number, ValueError if it is NaN."""
    check_number('threshold', threshold, 'a number that is not NaN', lambda number: not math.isnan(number))


def check_edge_side(edge_side: str) -> None:
    """Raise ValueError unless ``edge_side`` is 'above' or 'below'."""
    if edge_side not in EDGE_SIDES:
        raise ValueError(f'edge_side must be one of {EDGE_SIDES}, got {edge_side!r}')


def gradient_features(features: Tensor, threshold: float = 0.1, edge_side: str = 'above') -> Tensor:
    r"""Gradient features of a feature map: half its forward differences where two overlapping windows have an edge.

    .. math:: r_{i,j} = \tfrac12\, e_{i,j}\, e_{i+1,j+1}\, (P_{i+1,j} + P_{i,j+1} - 2 P_{i,j}), \quad
        e_{i,j} = [\max P_m - \min P_m \ge \lambda] \text{ of the window } P_m \text{ centered at } (i, j)

    This is equivalent to Algorithms 1 and 2. Algorithm 1 assigns the differences
    g_m(k, c) = P_m(k+1, c) + P_m(k, c+1) - 2 P_m(k, c) to each window with an edge, and zeros to every other window.
    Algorithm 2 keeps half of g_m(k, c) where it equals g_{m+1}(k-l, c-l): the next window is one step down and to the
    right, so both elements belong to the same pixel and are equal exactly if both windows have an edge, or neither
    has, or the difference is zero (no rounding is involved). In a 3 x 3 window only the center has its neighbors
    inside both windows, so each pixel gets its result from one window and no results need merging.

    Choices where the paper is ambiguous:

    - delta(P_m) is undefined: here the range max - min of the window.
    - ``if delta(P_m) < lambda`` computes the differences where there is *no* edge, which contradicts the purpose of
      the layer and the text about lambda: the default is ``>=``; ``edge_side='below'`` follows the printed line.
    - lambda has no value: 0.1, for features that batch norm has scaled to unit standard deviation.
    - Algorithm 2 names P_m, not g_m. With P_m, its comparison would be of a pixel with itself, always true, and the
      result of Algorithm 1 would be unused.
    - Loop bounds are half-open, so that no index leaves its window: k + 1 < K in Algorithm 1, k >= l in Algorithm 2.
    - The map is not padded: pixels in the first row and column and in the last two are not in two windows and get 0.
    - Channels are processed independently.

    Args:
        features: (..., H, W), floating point, any memory format. Maps with a side below 4 px have no two consecutive
            windows and return zeros. Windows with a NaN have no edge.
        threshold: lambda, any number but NaN; infinities select all windows or none.
        edge_side: ``'above'``: windows with max - min >= lambda have an edge. ``'below'``: those with
            max - min < lambda, as printed.

    Returns:
        r, of the shape, dtype and device of ``features``. The gradient flows through the differences; e is piecewise
        constant and has none.

    Raises:
        TypeError: ``features`` is not a floating point tensor or ``threshold`` is not a number.
        ValueError: ``features`` has fewer than two dimensions, ``threshold`` is NaN or ``edge_side`` unknown.

    Example:
        >>> step = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]).expand(1, 5, 5)
        >>> gradient_features(step)[0, 2]
        tensor([0.0000, 0.5000, 0.0000, 0.0000, 0.0000])
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        got = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f'features must be a floating point torch.Tensor, got {got}')
    if features.dim() < 2:
        raise ValueError(f'features must have shape (..., H, W), got {tuple(features.shape)}')
    check_threshold(threshold)
    check_edge_side(edge_side)
    if min(features.shape[-2:]) <= _WINDOW_PX:
        return torch.zeros_like(features)
    edge = _windows_with_edge(features.detach(), threshold, edge_side)
    center = features[..., 1:-2, 1:-2]
    # Two separate differences: twice the center could overflow in half precision.
    difference = (features[..., 2:-1, 1:-2] - center) + (features[..., 1:-2, 2:-1] - center)
    kept = torch.where(edge[..., :-1, :-1] & edge[..., 1:, 1:], difference / 2, 0)
    return F.pad(kept, (1, 2, 1, 2))


def gradient_layer(features: Tensor, threshold: float = 0.1, edge_side: str = 'above') -> Tensor:
    """Strengthen the edges of a feature map: P + P r, with r the :func:`gradient_features` of P (section 2.2).

    "The gradient features are dot-multiplied with the input data, and finally added to the input data": the product
    is element-wise. See :func:`gradient_features` for arguments, choices and errors.
    """
    return features + features * gradient_features(features, threshold, edge_side)


def _windows_with_edge(features: Tensor, threshold: float, edge_side: str) -> Tensor:
    """Whether each window has an edge: (..., H - 2, W - 2) bool."""
    highest, lowest = (window_extremum(each, features, _WINDOW_PX) for each in (torch.maximum, torch.minimum))
    contrast = highest - lowest
    return contrast >= threshold if edge_side == 'above' else contrast < threshold
