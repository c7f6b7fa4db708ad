from __future__ import annotations

import torch
from torch import Tensor


def compute_dtype(logits: Tensor) -> torch.dtype:
    """The dtype that a loss of these logits is computed in: float32 also for half precision, float64 for float64."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
