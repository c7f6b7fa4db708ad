"""Checks of arguments, with messages that name the value and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._common import compute_dtype

REDUCTIONS = ('none', 'mean', 'sum')
LOGITS_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# torch supports hardly any operation on the others, unsigned with 16 bits or more.
_PLAIN_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_label(label: np.ndarray | Tensor) -> Tensor:
    """Return ``label`` as an integer tensor, int64 for uint16, uint32 and uint64, or raise TypeError or ValueError."""
    if isinstance(label, np.ndarray) and label.dtype.kind in 'iu':
        # torch refuses foreign byte order, negative strides and, before 2.3, wider unsigned integers than uint8, and
        # warns of read-only arrays.
        dtype = label.dtype.newbyteorder('=')
        if dtype.kind == 'u' and dtype != np.uint8:
            _check_int64(int(label.max(initial=0)))
            dtype = np.int64
        label = np.require(label, dtype, ('C', 'W'))
        # An axis of length 1 may keep a negative stride.
        label = torch.from_numpy(label.copy() if min(label.strides, default=0) < 0 else label)
    if not isinstance(label, (np.ndarray, Tensor)):
        raise TypeError(f'label must be a torch.Tensor or numpy.ndarray, got {type(label).__name__}')
    if isinstance(label, np.ndarray) or label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f'label must have an integer dtype, got {label.dtype}')
    if label.dtype in _PLAIN_DTYPES:
        return label
    if label.dtype == torch.uint64 and label.device.type == 'cpu' and label.numel() and label.long().min() < 0:
        _check_int64(int(label.long().min()) + 2**64)
    return label.long()


def _check_int64(class_id: int) -> None:
    if class_id >= 2**63:
        raise ValueError(f'label must be below 2^63, got {class_id}')


def check_int(name: str, value: int, lowest: float = -math.inf, highest: float = math.inf) -> int:
    """Return ``value`` as an int, or raise TypeError, or ValueError where it is not in [lowest, highest]."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f'{name} must be an int, got {value!r} ({type(value).__name__})')
    if value < lowest:
        raise ValueError(f'{name} must be >= {lowest}, got {value}')
    if value > highest:
        raise ValueError(f'{name} must be <= {highest}, got {value}')
    return int(value)


def check_number(
    name: str, value: float, expected: str = 'a finite number', fits: Callable[[float], bool] = math.isfinite
) -> None:
    """Raise TypeError unless ``value`` is a number, ValueError unless it fits.

    Args:
        name: Name of the argument.
        value: Its value.
        expected: Which numbers fit, for the message.
        fits: Whether a number does.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not fits(value):
        raise (ValueError if is_number else TypeError)(f'{name} must be {expected}, got {value!r}')


def check_bool(name: str, value: bool) -> None:
    """Raise TypeError unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f'{name} must be a bool, got {value!r}')


def check_ignore_index(ignore_index: int) -> int:
    """Return ``ignore_index`` as an int, or raise TypeError."""
    return check_int('ignore_index', ignore_index)


def check_ids(name: str, ids: Tensor, num_classes: int, alternative: str = '') -> int:
    """Raise ValueError unless all ids are in [0, num_classes); return the highest, or a bound for it.

    On CUDA the check is an asynchronous device assertion, since looking at the values would wait for the device.
    """
    if ids.device.type != 'cpu':
        torch._assert_async(((ids >= 0) & (ids < num_classes)).all())
        return num_classes - 1
    lowest, highest = (int(value) for value in ids.aminmax()) if ids.numel() else (0, 0)
    if lowest < 0 or highest >= num_classes:
        value = lowest if lowest < 0 else highest
        raise ValueError(f'{name} must be in [0, {num_classes}){alternative}, got {value}')
    return highest


def void_mask(label: Tensor, ignore_index: int) -> Tensor:
    """Boolean mask of void pixels; none where ``ignore_index`` lies outside the label's dtype."""
    limits = torch.iinfo(label.dtype)
    if not limits.min <= ignore_index <= limits.max:
        return torch.zeros_like(label, dtype=torch.bool)
    return label == ignore_index


def split_void(label: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the class ids, with 0 at void pixels and in the label's dtype, and the boolean mask of void pixels.

    Raises:
        ValueError: An id is neither in [0, num_classes) nor ``ignore_index`` (on CUDA an asynchronous assertion).
    """
    void = void_mask(label, ignore_index)
    ids = label * ~void  # faster on CPU than masked_fill for small dtypes
    check_ids('label', ids, num_classes, f' or ignore_index={ignore_index}')
    return ids, void


def check_pixels(logits: Tensor, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Check logits (B, C, H, W), label (B, H, W) and the label's ids, in [0, max(C, 2)) or ``ignore_index``.

    Returns:
        The label as int64 with 0 at void pixels, and the boolean mask of void pixels; both (B, H, W).

    Raises:
        TypeError: An argument has the wrong type or dtype.
        ValueError: Shapes or devices do not fit, or an id is out of range (on CUDA an asynchronous device assertion).
    """
    check_ignore_index(ignore_index)
    label = check_label(label)
    check_logits(logits, label)
    ids, void = split_void(label, ignore_index, max(logits.shape[1], 2))
    return ids.long(), void


def check_same_origin(name: str, arguments: str, made_with: Sequence[tuple[Any, ...]]) -> None:
    """Raise ValueError unless these are of one or more (H, W) labels, and made with the same arguments.

    Args:
        name: What is to be stacked.
        arguments: Names of the arguments.
        made_with: The values of each, the shape of the label first.
    """
    if len({*made_with}) != 1 or len(made_with[0][0]) != 2:
        raise ValueError(
            f'{name} to stack must be of (H, W) labels and have the same ({arguments}), '
            f'got {sorted({*made_with}, key=str)}'
        )


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless ``reduction`` is 'none', 'mean' or 'sum'."""
    if reduction not in REDUCTIONS:
        raise ValueError(f'reduction must be one of {REDUCTIONS}, got {reduction!r}')


def check_logits(logits: Tensor, label: Tensor) -> None:
    """Raise TypeError or ValueError unless ``logits`` are (B, C, H, W) floating point and fit ``label``."""
    if not isinstance(logits, Tensor):
        raise TypeError(f'logits must be a torch.Tensor, got {type(logits).__name__}')
    if logits.dtype not in LOGITS_DTYPES:
        raise TypeError(f'logits must have a floating point dtype of {LOGITS_DTYPES}, got {logits.dtype}')
    if logits.dim() != 4 or 0 in logits.shape[1:]:
        raise ValueError(f'logits must have shape (B, C, H, W) with C, H, W > 0, got {tuple(logits.shape)}')
    expected = (logits.shape[0], *logits.shape[2:])
    if label.shape != expected:
        raise ValueError(f'label must have shape (B, H, W) = {expected} as logits have, got {tuple(label.shape)}')
    if label.device != logits.device:
        raise ValueError(f"label must be on the logits' device {logits.device}, got {label.device}")


def check_factor(
    name: str, value: list[float] | Tensor | None, shape: tuple[int, ...], logits: Tensor
) -> Tensor | None:
    """Return ``value`` in the dtype of the computation and on the logits' device, or raise TypeError or ValueError."""
    if value is None:
        return None
    try:
        value = torch.as_tensor(value, dtype=compute_dtype(logits), device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f'{name} must be a tensor or a list of numbers, got {value!r}') from error
    if value.shape != shape:
        raise ValueError(f'{name} must have shape {shape}, got {tuple(value.shape)}')
    return value


def refuse_gradient(name: str, value: Tensor | None, hint: str = '') -> None:
    """Raise ValueError if autograd would want the gradient of a factor that is a constant to the backward.

    Args:
        name: Name of the argument.
        value: The factor, from :func:`check_factor`.
        hint: Text appended to the message.
    """
    if value is not None and value.requires_grad and torch.is_grad_enabled():
        raise ValueError(f'{name} must not require a gradient, which is not computed{hint}')


def check_avg_factor(avg_factor: float | Tensor | None, reduction: str, logits: Tensor) -> float | Tensor | None:
    """Return ``avg_factor`` as a number or scalar tensor >= float32's eps, or raise TypeError or ValueError."""
    if avg_factor is None:
        return None
    if reduction == 'sum':
        raise ValueError(f"avg_factor cannot be used with reduction='sum', got avg_factor={avg_factor}")
    if isinstance(avg_factor, Tensor) and avg_factor.numel() != 1:
        raise ValueError(f'avg_factor must be a number or a scalar tensor, got shape {tuple(avg_factor.shape)}')
    smallest = torch.finfo(torch.float32).eps
    if isinstance(avg_factor, Tensor) and avg_factor.device.type != 'cpu':  # looking at the value would wait for it
        return avg_factor.to(logits.device, compute_dtype(logits)).reshape(()).clamp(min=smallest)
    try:
        value = float(avg_factor)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f'avg_factor must be a number or a scalar tensor, got {avg_factor!r}') from error
    if not value >= 0:
        raise ValueError(f'avg_factor must be >= 0, got {avg_factor}')
    return max(value, smallest)
