"""Helpers that several operations share."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor


def compute_dtype(logits: Tensor) -> torch.dtype:
    """The dtype in which a loss is computed: float64 for float64 logits, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


@cache
def has_float64(device: torch.device) -> bool:
    """Whether a device supports float64: Apple's GPUs (MPS) and some of Intel's (XPU) do not."""
    try:
        torch.ones((), dtype=torch.float64, device=device).add_(1)
    except (TypeError, RuntimeError):
        return False
    return True


def to_float64(values: Tensor) -> Tensor:
    """``values`` in float64, on the CPU if their device does not support it."""
    return (values if has_float64(values.device) else values.cpu()).double()


def is_transformed() -> bool:
    """Whether a torch.func transform (grad, vjp, vmap and the like) is active."""
    return torch._C._are_functorch_transforms_active()  # as torch.autograd.Function asks; there is no public name


def is_readable(values: Tensor) -> bool:
    """Whether NumPy can read the memory of a tensor; not in a torch.func transform."""
    return values.device.type == 'cpu' and not is_transformed()


def chunk_slices(length: int, elements: int, device: torch.device) -> list[slice]:
    """Split ``length`` columns of ``elements`` values each into one or more slices; the last may be shorter.

    A slice fits into the cache of a CPU and is small compared with the logits of a training batch.
    """
    step = max(1, (2**18 if device.type == 'cpu' else 2**24) // elements)
    return [slice(start, min(start + step, length)) for start in range(0, max(length, 1), step)]


def flat_nonzero(values: Tensor) -> Tensor:
    """Flat indices (int64) of the non-zero elements."""
    if is_readable(values):  # NumPy is several times faster
        return torch.from_numpy(np.flatnonzero(values.numpy()))
    return values.view(-1).nonzero()[:, 0]


def refuse_transforms(name: str, hint: str = '') -> None:
    """Raise RuntimeError in a torch.func transform, which a hand-written gradient does not support.

    Args:
        name: Name of the operation.
        hint: Text appended to the message.
    """
    if is_transformed():
        raise RuntimeError(f'{name} cannot be transformed by torch.func: its gradient is written by hand{hint}')


def refuse_second_derivative(name: str, hint: str = '') -> None:
    """Raise RuntimeError if a backward that is not differentiable itself runs with ``create_graph=True``.

    Args:
        name: Name of the operation.
        hint: Text appended to the message.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(f'{name} can be differentiated once only (create_graph=True was asked for){hint}')


def reduce_error(
    error: Tensor,
    count: Tensor | None = None,
    *,
    weight: Tensor | None,
    avg_factor: float | Tensor | None,
    reduction: str,
) -> Tensor:
    """Weight the pixel errors and reduce them as MMSegmentation's losses do.

    Args:
        error: (B, H, W), floating point.
        count: Scalar, the divisor for ``'mean'`` without ``avg_factor``, needed only there; 0 divides by 1.
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
    if avg_factor is None:
        assert count is not None, "'mean' needs a divisor"
        avg_factor = count.clamp(min=1)
    return error.sum() / avg_factor
