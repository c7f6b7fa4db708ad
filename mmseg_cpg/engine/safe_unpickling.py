"""Allows torch's restricted unpickler to build MMEngine's logs, in addition to tensors and plain values.

A training checkpoint contains the :class:`HistoryBuffer` objects of the log, which contain NumPy arrays, and scores
that are NumPy scalars. Adding ``numpy.ndarray`` and ``numpy.dtype`` themselves to torch's allow-list would let a file
call them with arbitrary arguments: an object array over forged bytes is an array of forged pointers. The stand-ins
here accept only numbers and their bytes, and return nothing that a file could call.
"""

from __future__ import annotations

import math
import os
import re
from pickle import UnpicklingError
from typing import Any, Literal, cast

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

STATISTICS = ('min', 'max', 'current', 'mean')
_MAX_ELEMENTS = 2**40  # far beyond any log, far below an overflow of NumPy's sizes


def allow_training_logs() -> None:
    """Let ``torch.load`` read the logs in training checkpoints, and check downloads too.

    Does nothing before torch 2.6, which neither checks by default nor accepts the names below.
    """
    if digit_version(torch.__version__) < digit_version('2.6'):
        return
    # NumPy 2 renamed its core; checkpoints may be from either version.
    cores = ('numpy.core.multiarray', 'numpy._core.multiarray')
    torch.serialization.add_safe_globals(
        [
            (_History, f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}'),
            (_statistic, 'builtins.getattr'),
            (_Array, 'numpy.ndarray'),
            (_DType, 'numpy.dtype'),
            (_no_bytes, 'builtins.bytes'),
            *((_scalar, f'{core}.scalar') for core in cores),
            *((_reconstruct, f'{core}._reconstruct') for core in cores),
        ]
    )
    # MMEngine downloads with torch.hub, which disables the check; this variable enables it there too.
    if 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ:
        os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')


class _DType:
    """Stands in for ``numpy.dtype``: boolean, integer and floating-point types only."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(code, str) or not re.fullmatch(r'[biuf]\d{1,2}', code):
            raise UnpicklingError(f'Unsupported global: GLOBAL numpy.dtype for {code!r}')
        try:
            self.value = np.dtype(code)
        except TypeError as error:
            raise UnpicklingError(f'numpy.dtype: {error}') from error

    def __setstate__(self, state: Any) -> None:
        # Version, byte order, and fields that only structured, string and object types use.
        if not isinstance(state, tuple) or state[2:] != (None, None, None, -1, -1, 0) or state[1] not in tuple('<>|='):
            raise UnpicklingError(f'Unsupported global: GLOBAL numpy.dtype with the state {state!r}')
        self.value = self.value.newbyteorder(state[1])


def _to_array(dtype: Any, shape: Any, order: Literal['C', 'F'], data: Any) -> np.ndarray:
    """Build an array of numbers from its bytes."""
    dims = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape) and len(shape) <= 32
    if type(dtype) is not _DType or not dims or type(data) is not bytes:
        raise UnpicklingError('Unsupported global: GLOBAL numpy.ndarray of other values than numbers')
    # A size of 0 would hide the others in the product.
    if (
        math.prod(max(size, 1) for size in shape) > _MAX_ELEMENTS
        or len(data) != math.prod(shape) * dtype.value.itemsize
    ):
        raise UnpicklingError(f'numpy.ndarray: {len(data)} bytes do not fit an array of shape {shape}')
    return np.frombuffer(data, dtype.value).reshape(shape, order=order)


class _Array(np.ndarray):
    """Stands in for ``numpy.ndarray``: starts empty, accepts numbers as its state, and is pickled as an ndarray."""

    def __new__(cls) -> _Array:
        return super().__new__(cls, 0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnpicklingError('numpy.ndarray: not the state of an array')
        _version, shape, dtype, fortran, data = state
        values = _to_array(dtype, shape, 'F' if fortran is True else 'C', data)
        super().__setstate__(cast(tuple, values.__reduce__()[2]))

    def __reduce__(self) -> str | tuple:
        return self.view(np.ndarray).__reduce__()


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    """Stand in for NumPy's function that creates the empty array whose state follows."""
    return _Array()


def _scalar(dtype: Any, data: Any) -> Any:
    """Stand in for NumPy's function that creates a scalar from its bytes."""
    return _to_array(dtype, (), 'C', data)[()]


class _History:
    """Stands in for :class:`HistoryBuffer`, and becomes one when its state is set."""

    def __setstate__(self, state: Any) -> None:
        values, counts, max_length = (state.get(key) for key in ('_log_history', '_count_history', 'max_length'))
        if not (type(values) is type(counts) is _Array and values.ndim == 1 and values.shape == counts.shape):
            raise UnpicklingError(f'{HistoryBuffer.__qualname__}: values and counts must be arrays of equal length')
        if type(max_length) is not int or max_length < 1:
            raise UnpicklingError(f'{HistoryBuffer.__qualname__}: max_length is {max_length!r}')
        self.__class__ = HistoryBuffer
        HistoryBuffer.__init__(self, np.array(values), np.array(counts), max_length)


def _no_bytes() -> bytes:
    """Stand in for ``bytes``: the content of an empty array is pickled as a call without arguments."""
    return b''


def _statistic(owner: Any, name: Any) -> str:
    """Stand in for ``getattr``, with which a pickled HistoryBuffer refers to its statistics, which it has anyway."""
    if owner is _History and name in STATISTICS:
        return name
    raise UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr for {name!r}')
