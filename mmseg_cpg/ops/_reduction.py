from __future__ import annotations

from torch import Tensor


def reduce_error(
    error: Tensor, count: Tensor, *, weight: Tensor | None, avg_factor: float | Tensor | None, reduction: str
) -> Tensor:
    """Weight the pixels' errors and reduce them as MMSegmentation's losses do.

    Args:
        error: (B, H, W), floating point.
        count: Scalar, the divisor for ``'mean'`` where there is no ``avg_factor``; 0 divides by 1.
        weight: (B, H, W), factor of each pixel.
        avg_factor: Number or scalar > 0, the divisor for ``'mean'``.
        reduction: 'none', 'mean' or 'sum'.

    Returns:
        Scalar, or (B, H, W) for ``'none'``.
    """
    if weight is not None:
        error = error * weight
    if reduction == 'none':
        return error
    if reduction == 'sum':
        return error.sum()
    return error.sum() / (count.clamp(min=1) if avg_factor is None else avg_factor)
