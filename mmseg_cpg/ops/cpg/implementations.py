"""Which implementation of the CPG loss runs, and why."""

from __future__ import annotations

import os
from functools import cache

import torch
from torch import Tensor

IMPLEMENTATIONS = ('auto', 'dense', 'sparse', 'triton')
_TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def choose_implementation(logits: Tensor, implementation: str = 'auto') -> tuple[str, str]:
    """Name of the implementation that computes the loss of these logits, and the reason in a few words.

    Args:
        logits: (B, C, H, W).
        implementation: ``'auto'`` is ``'triton'`` on CUDA where it can run, else ``'sparse'``. Other names are taken
            at their word.

    Raises:
        ValueError: No such implementation, or ``'triton'`` cannot run here.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f'implementation must be one of {IMPLEMENTATIONS}, got {implementation!r}')
    if implementation in ('dense', 'sparse'):
        return implementation, 'it was asked for'
    obstacle = _triton_obstacle(logits)
    if implementation == 'triton' and obstacle:
        raise ValueError(f"implementation='triton' cannot run: {obstacle}")
    if implementation == 'auto' and logits.device.type == 'cpu':
        return 'sparse', 'the logits are on the CPU'
    return ('sparse', obstacle) if obstacle else ('triton', f'the logits are on {logits.device}')


def _triton_obstacle(logits: Tensor) -> str:
    if logits.dtype not in _TRITON_DTYPES:
        return f'it takes logits of {_TRITON_DTYPES}, not {logits.dtype}'
    if logits.shape[2] * logits.shape[3] >= 2**31:
        return f'it takes images of fewer than 2^31 pixels, not {tuple(logits.shape[2:])}'
    if logits.device.type == 'cpu' and os.environ.get('TRITON_INTERPRET') == '1':
        return ''
    if logits.device.type != 'cuda':
        return f'it takes logits on CUDA, not on {logits.device}'
    return _device_obstacle(logits.device)


@cache
def _device_obstacle(device: torch.device) -> str:
    """Why Triton kernels do not run on a device: no triton, a GPU that it does not know, no C compiler and the like."""
    try:
        from .triton_autograd import triton_squared_error

        logits = torch.zeros(1, 2, 8, 8, device=device)
        triton_squared_error(logits, logits[:, 0].long(), 3, 255, 'exclude', False, None)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        return f'{type(error).__name__}: {error}'.splitlines()[0]
    return ''
