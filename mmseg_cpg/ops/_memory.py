from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A large tensor of zeros, float32 or float64.

    On CPU the memory is numpy's, which asks for huge pages where torch does not, so that its first use is faster.
    """
    if device.type != 'cpu':
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(shape, _NUMPY_DTYPES[dtype]))
