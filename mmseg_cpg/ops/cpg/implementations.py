"""The implementations of the CPG loss, alone or with a main loss, and which of them runs.

Each is a function with one signature and one contract, :class:`SquaredError` or :class:`FusedErrors`. To add one, write
the function and its line in :data:`IMPLEMENTATIONS` or :data:`FUSED_ERRORS`. The exception is the fused ``'sparse'``,
which ``fused`` calls by itself: it computes the gradient together with the value, so it needs the factors and the
divisors of both losses in advance, and returns sums instead of the errors of pixels.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from .cross_entropy import CrossEntropy
from .dense import dense_squared_error
from .options import CPGOptions
from .sparse import sparse_squared_error
from .targets import BoundaryTargets

_TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_VOID = 255  # in the label of the kernels' check
_OLDEST_TRITON = '3.2'  # in the interpreter of 3.0 the kernels give wrong results


class SquaredError(Protocol):
    """Sum over classes and directions of class_weight * M * (Ĝ - G)^2 (Eq. 14), and N = sum(M).

    Args:
        logits: (B, C, H, W), floating point, any memory format. Never modified.
        label: (B, H, W), integer. The implementation checks the ids.
        options: ``use_sigmoid`` is True for C = 1.
        class_weight: (C,) in the dtype of the result, or None for 1. Only ``'dense'`` is differentiable with respect to
            it; the callers see to it that the others get one that requires no gradient.
        targets: Precomputed for ``label`` with the same options, or None. An implementation may ignore them.

    Returns:
        (B, H, W) float32 (float64 for float64 logits), differentiable with respect to ``logits``; and N as a scalar
        int64 tensor.

    Raises:
        ValueError: An id is neither in [0, max(C, 2)) nor ``ignore_index`` (on CUDA an asynchronous device assertion).
    """

    def __call__(
        self,
        logits: Tensor,
        label: Tensor,
        options: CPGOptions,
        class_weight: Tensor | None,
        targets: BoundaryTargets | None,
    ) -> tuple[Tensor, Tensor]: ...


def _triton_squared_error(
    logits: Tensor, label: Tensor, options: CPGOptions, class_weight: Tensor | None, targets: BoundaryTargets | None
) -> tuple[Tensor, Tensor]:
    from .triton_autograd import triton_squared_error  # triton is not installed everywhere

    return triton_squared_error(logits, label, options, class_weight, targets)


IMPLEMENTATIONS: dict[str, SquaredError] = {
    'dense': dense_squared_error,
    'sparse': sparse_squared_error,
    'triton': _triton_squared_error,
}


class FusedErrors(Protocol):
    """The errors of both the main loss and the CPG loss.

    Args:
        logits, label, options, class_weight, targets: See :class:`SquaredError`. ``class_weight`` is that of the CPG
            loss.
        main: The main loss.

    Returns:
        The main loss of each pixel, (B, H, W), 0 at void pixels; :meth:`~.cross_entropy.CrossEntropy.label_weight`; and
        what :class:`SquaredError` returns.

    Raises:
        ValueError: See :class:`SquaredError`.
    """

    def __call__(
        self,
        logits: Tensor,
        label: Tensor,
        options: CPGOptions,
        class_weight: Tensor | None,
        main: CrossEntropy,
        targets: BoundaryTargets | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...


def _separate_errors(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    class_weight: Tensor | None,
    main: CrossEntropy,
    targets: BoundaryTargets | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    choice = choose_implementation(logits, options)
    warn_of_fallback('the CPG loss', choice)
    error, num_entries = IMPLEMENTATIONS[choice.name](logits, label, options, class_weight, targets)
    return main.of_pixels(logits, label), main.label_weight(label), error, num_entries


def _triton_fused_errors(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    class_weight: Tensor | None,
    main: CrossEntropy,
    targets: BoundaryTargets | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from .triton_autograd import triton_fused_errors

    return triton_fused_errors(logits, label, options, class_weight, main, targets)


FUSED_ERRORS: dict[str, FusedErrors] = {
    'separate': _separate_errors,
    'triton': _triton_fused_errors,
}


class Choice(NamedTuple):
    """An implementation, and why it was chosen."""

    name: str
    reason: str
    is_fallback: bool = False


def warn_of_fallback(name: str, choice: Choice) -> None:
    """Warn if a function, named in the warning, falls back to another implementation."""
    if choice.is_fallback:
        warnings.warn(f"{name} runs its '{choice.name}' implementation: {choice.reason}", stacklevel=4)


def check_implementation(implementation: str) -> None:
    """Raise ValueError unless ``implementation`` is 'auto' or the name of an implementation of the CPG loss."""
    _check_name(implementation, tuple(IMPLEMENTATIONS))


def _check_name(implementation: str, names: tuple[str, ...]) -> None:
    names = ('auto', *names)
    if implementation not in names:
        raise ValueError(f'implementation must be one of {names}, got {implementation!r}')


def choose_implementation(logits: Tensor, options: CPGOptions, implementation: str = 'auto') -> Choice:
    """Choose the implementation that computes the CPG loss of these logits.

    The first call for a device, a dtype and options runs the Triton kernels on a small random label, see
    :func:`check_kernels`.

    Args:
        logits: (B, C, H, W).
        options: Of the loss.
        implementation: ``'auto'`` is ``'triton'`` on CUDA if its kernels work there, else ``'sparse'``. Other names
            are used as given.

    Raises:
        ValueError: There is no such implementation, or ``'triton'`` does not support these logits.
        Exception: ``'triton'`` was requested and the check of its kernels failed; the check's own error.
    """
    check_implementation(implementation)
    if implementation not in ('auto', 'triton'):
        return Choice(implementation, 'it was requested')
    if implementation == 'auto' and logits.device.type == 'cpu':
        return Choice('sparse', 'the logits are on the CPU')
    return _choose_triton(logits, options, implementation, 'sparse')


def choose_fused_implementation(
    logits: Tensor, options: CPGOptions, use_sigmoid: bool, reduction: str, implementation: str = 'auto'
) -> Choice:
    """Choose the implementation that computes both the main loss and the CPG loss of these logits.

    Args:
        logits: (B, C, H, W).
        options: Of the CPG loss.
        use_sigmoid: The main loss is binary cross-entropy.
        reduction: 'none', 'mean' or 'sum'.
        implementation: ``'auto'`` is ``'triton'`` on CUDA if its kernels work there and ``'sparse'`` on CPU if that
            supports the arguments, else ``'separate'``. Other names are used as given.

    Raises:
        ValueError: There is no such implementation, or it does not support these arguments.
        Exception: ``'triton'`` was requested and the check of its kernels failed; the check's own error.
    """
    _check_name(implementation, ('sparse', *FUSED_ERRORS))
    if implementation == 'separate':
        return Choice(implementation, 'it was requested')
    if implementation == 'triton' or (implementation == 'auto' and logits.device.type != 'cpu'):
        return _choose_triton(logits, options, implementation, 'separate', use_sigmoid)
    obstacle = _fused_sparse_obstacle(logits, reduction)
    if implementation == 'sparse':
        if obstacle:
            raise ValueError(f"implementation='sparse' cannot run: {obstacle}")
        return Choice('sparse', 'it was requested')
    return Choice('separate', obstacle) if obstacle else Choice('sparse', 'the logits are on the CPU')


def _choose_triton(
    logits: Tensor, options: CPGOptions, implementation: str, otherwise: str, use_sigmoid: bool | None = None
) -> Choice:
    """Choose ``'triton'``, or for ``'auto'`` the implementation named ``otherwise`` if it cannot run."""
    obstacle = _triton_obstacle(logits)
    # The check is the same for any ignore_index, and done once for all.
    kernels = (logits.device, logits.dtype, replace(options, ignore_index=_VOID), use_sigmoid)
    if implementation == 'triton':
        if obstacle:
            raise ValueError(f"implementation='triton' cannot run: {obstacle}")
        if logits.device.type == 'cuda':
            check_kernels(*kernels)
        return Choice('triton', 'it was requested')
    if obstacle:
        return Choice(otherwise, obstacle)
    fault = _kernel_fault(*kernels)
    if fault:
        reason = f'the Triton kernels failed their check on {logits.device}: {fault}'
        return Choice(otherwise, reason, is_fallback=True)
    return Choice('triton', f'the logits are on {logits.device}')


def _fused_sparse_obstacle(logits: Tensor, reduction: str) -> str:
    if logits.device.type != 'cpu':
        return f'sparse supports logits on the CPU, not on {logits.device}'
    if logits.shape[1] == 1:
        return 'sparse supports logits with several channels, not with one'
    if reduction == 'none':
        return "sparse supports reduction 'mean' and 'sum', not 'none'"
    return ''


def _triton_obstacle(logits: Tensor) -> str:
    if logits.dtype not in _TRITON_DTYPES:
        return f'triton supports logits of {_TRITON_DTYPES}, not {logits.dtype}'
    if logits.shape[2] * logits.shape[3] >= 2**31:
        return f'triton supports images of fewer than 2^31 pixels, not {tuple(logits.shape[2:])}'
    if logits.device.type == 'cpu' and os.environ.get('TRITON_INTERPRET') == '1':
        return ''
    if logits.device.type != 'cuda':
        return f'triton supports logits on CUDA, not on {logits.device}'
    return ''


@cache
def _kernel_fault(device: torch.device, dtype: torch.dtype, options: CPGOptions, use_sigmoid: bool | None) -> str:
    try:
        check_kernels(device, dtype, options, use_sigmoid)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return ''


@cache  # of the checks that passed: exceptions are not cached
def check_kernels(
    device: torch.device, dtype: torch.dtype, options: CPGOptions, use_sigmoid: bool | None = None
) -> None:
    """Run all Triton kernels, forward and backward, and compare with plain torch and the sparse implementation on CPU.

    The label has void pixels, tiles inside the image, at its borders and cut off by them, and tiles with more classes
    than the kernels keep the gradients of.

    Args:
        device: Where the kernels run.
        dtype: Of the logits.
        options: Of the loss, with ``ignore_index`` 255, the void of the label here.
        use_sigmoid: Whether the main loss is binary cross-entropy; None is without main loss.

    Raises:
        RuntimeError: A result is wrong, or triton is too old.
        Exception: Whatever compiling or launching the kernels raises: no triton, no C compiler, an unsupported GPU.
    """
    import triton

    if TorchVersion(triton.__version__) < _OLDEST_TRITON:
        raise RuntimeError(f'triton {_OLDEST_TRITON} or newer is needed, got {triton.__version__}')
    with torch.inference_mode(False), torch.enable_grad():
        # A main loss meets the sigmoid of the CPG loss in binary segmentation only.
        case = _case_for_check(dtype, 1 if options.use_sigmoid and use_sigmoid is not None else 11)
        results = {
            name: _results(name, [each.to(at) for each in case], options, use_sigmoid)
            for name, at in (('sparse', torch.device('cpu')), ('triton', device))
        }
    # Both compute in float32, where sums of up to 120 products round to a relative 2e-5, and round the gradient once.
    tolerances = {'number of boundary entries': 0, 'gradient': 2e-5 + 2 * torch.finfo(dtype).eps}
    for quantity in results['triton']:
        actual, expected = (results[name][quantity].detach().cpu().double() for name in ('triton', 'sparse'))
        tolerance = tolerances.get(quantity, 2e-5)
        difference = ((actual - expected).norm() / expected.norm()).item()
        if not difference <= tolerance:  # NaN is wrong, too
            raise RuntimeError(
                f"the {quantity} differs from the sparse implementation's by {difference:.1e}, "
                f'expected at most {tolerance:.1e}, for {options} and {dtype} logits on {device}'
            )


def _case_for_check(dtype: torch.dtype, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, label, class weights and the gradient of the pixel errors, on the CPU."""
    batch, height, width, cell = 2, 17, 66, 6  # three by three tiles of 8 x 32 pixels
    num_ids = max(num_classes, 2)
    generator = torch.Generator('cpu').manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32, device='cpu')

    label = min(num_ids, 3) * random(batch, 3, width // cell)
    label = label.long().repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :height]
    label[0, 4:8, 30:38] = (num_ids * random(4, 8)).long()
    label[random(*label.shape) < 0.005] = _VOID
    logits = (8 * random(batch, num_classes, height, width) - 4).to(dtype)
    return logits, label, 0.5 + random(num_classes), 0.5 + random(*label.shape)


def _results(name: str, case: list[Tensor], options: CPGOptions, use_sigmoid: bool | None) -> dict[str, Tensor]:
    """What is compared, by name."""
    logits, label, class_weight, upstream = case
    logits = logits.detach().requires_grad_()
    results, main_error = {}, None
    if use_sigmoid is None:
        error, num_entries = IMPLEMENTATIONS[name](logits, label, options, class_weight, None)
    else:
        main = CrossEntropy(use_sigmoid, options.ignore_index, class_weight.flip(0), logits.shape[1])
        compute = FUSED_ERRORS['separate' if name == 'sparse' else name]
        main_error, label_weight, error, num_entries = compute(logits, label, options, class_weight, main, None)
        results = {'main loss': main_error, "sum of the main loss's weights": label_weight}
    errors = [error] if main_error is None else [error, main_error]
    (grad_logits,) = torch.autograd.grad(errors, logits, [upstream, upstream.flip(1)][: len(errors)])
    return {**results, 'number of boundary entries': num_entries, 'error': error, 'gradient': grad_logits}
