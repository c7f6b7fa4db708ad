from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def compute_dtype(logits: Tensor) -> torch.dtype:
    """The dtype that a loss of these logits is computed in: float32 also for half precision, float64 for float64."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


@cache
def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64: Apple's GPUs (MPS) and some of Intel's (XPU) do not."""
    try:
        torch.ones((), dtype=torch.float64, device=device).add_(1)
    except (TypeError, RuntimeError):
        return False
    return True


def to_float64(values: Tensor) -> Tensor:
    """``values`` in float64, on the CPU where their device has none."""
    return (values if has_float64(values.device) else values.cpu()).double()
