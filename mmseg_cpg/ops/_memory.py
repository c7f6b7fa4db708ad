"""Allocation of large tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A large tensor of zeros, float32 or float64.

    On CPU, NumPy allocates it, with huge pages, unlike torch, which makes its first use faster.
    """
    if device.type != 'cpu':
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(shape, _NUMPY_DTYPES[dtype]))
