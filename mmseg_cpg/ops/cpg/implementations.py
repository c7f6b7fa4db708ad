"""The implementations of the CPG loss, and which of them runs.

Each is a function with one signature and one contract, :class:`SquaredError`. To add one, write the function and its
line in :data:`IMPLEMENTATIONS`.
"""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from .dense import dense_squared_error
from .options import CPGOptions
from .sparse import sparse_squared_error
from .targets import BoundaryTargets

_TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_OLDEST_TRITON = '3.2'  # in the interpreter of 3.0 the kernels give wrong results


class SquaredError(Protocol):
    """Sum over classes and directions of class_weight * M * (Ĝ - G)^2 (Eq. 14), and N = sum(M).

    Args:
        logits: (B, C, H, W), floating point, any memory format. Never modified.
        label: (B, H, W), integer. The implementation checks the ids.
        options: ``use_sigmoid`` is True for C = 1.
        class_weight: (C,) in the dtype of the result, or None for 1.
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


class Choice(NamedTuple):
    """An implementation, and why it was chosen."""

    name: str
    reason: str
    is_fallback: bool = False


def check_implementation(implementation: str) -> None:
    """Raise ValueError unless ``implementation`` is 'auto' or the name of one."""
    names = ('auto', *IMPLEMENTATIONS)
    if implementation not in names:
        raise ValueError(f'implementation must be one of {names}, got {implementation!r}')


def choose_implementation(logits: Tensor, options: CPGOptions, implementation: str = 'auto') -> Choice:
    """Choose the implementation that computes the loss of these logits.

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
    obstacle = _triton_obstacle(logits)
    if implementation == 'triton':
        if obstacle:
            raise ValueError(f"implementation='triton' cannot run: {obstacle}")
        if logits.device.type == 'cuda':
            check_kernels(logits.device, logits.dtype, options)
        return Choice('triton', 'it was requested')
    if logits.device.type == 'cpu':
        return Choice('sparse', 'the logits are on the CPU')
    if obstacle:
        return Choice('sparse', obstacle)
    fault = _kernel_fault(logits.device, logits.dtype, options)
    if fault:
        return Choice('sparse', f'the Triton kernels failed their check on {logits.device}: {fault}', is_fallback=True)
    return Choice('triton', f'the logits are on {logits.device}')


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
def _kernel_fault(device: torch.device, dtype: torch.dtype, options: CPGOptions) -> str:
    try:
        check_kernels(device, dtype, options)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    return ''


@cache  # of the checks that passed: exceptions are not cached
def check_kernels(device: torch.device, dtype: torch.dtype, options: CPGOptions) -> None:
    """Run all Triton kernels, forward and backward, and compare with the sparse implementation on the CPU.

    The label has void pixels, tiles inside the image, at its borders and cut off by them, and tiles with more classes
    than the kernels keep the gradients of.

    Args:
        device: Where the kernels run.
        dtype: Of the logits.
        options: Of the loss; ``ignore_index`` is not used.

    Raises:
        RuntimeError: A result is wrong, or triton is too old.
        Exception: Whatever compiling or launching the kernels raises: no triton, no C compiler, an unsupported GPU.
    """
    import triton

    if TorchVersion(triton.__version__) < _OLDEST_TRITON:
        raise RuntimeError(f'triton {_OLDEST_TRITON} or newer is needed, got {triton.__version__}')
    options = CPGOptions(options.ksize, _VOID, options.ignore_policy, options.use_sigmoid)
    logits, label, class_weight, upstream = _case_for_check(dtype)
    results = {}
    for name, at in (('sparse', torch.device('cpu')), ('triton', device)):
        with torch.inference_mode(False), torch.enable_grad():
            leaf = logits.to(at).requires_grad_()
            error, num_entries = IMPLEMENTATIONS[name](leaf, label.to(at), options, class_weight.to(at), None)
            (grad_logits,) = torch.autograd.grad(error, leaf, upstream.to(at))
        results[name] = num_entries.cpu(), error.detach().cpu(), grad_logits.cpu()
    # Both compute in float32, where sums of up to 120 products round to a relative 2e-5, and round the gradient once.
    tolerances = {'number of boundary entries': 0, 'error': 2e-5, 'gradient': 2e-5 + 2 * torch.finfo(dtype).eps}
    for (quantity, tolerance), actual, expected in zip(
        tolerances.items(), results['triton'], results['sparse'], strict=True
    ):
        actual, expected = actual.double(), expected.double()
        difference = ((actual - expected).norm() / expected.norm()).item()
        if not difference <= tolerance:  # NaN is wrong, too
            raise RuntimeError(
                f"the {quantity} differs from the sparse implementation's by {difference:.1e}, "
                f'expected at most {tolerance:.1e}, for {options} and {dtype} logits on {device}'
            )


_VOID = 255


def _case_for_check(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, label, class weights and the gradient of the pixel errors, on the CPU."""
    batch, num_classes, height, width, cell = 2, 11, 17, 66, 6  # three by three tiles of 8 x 32 pixels
    generator = torch.Generator('cpu').manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32, device='cpu')

    label = (3 * random(batch, 3, width // cell)).long().repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    label = label[:, :height]
    label[0, 4:8, 30:38] = (num_classes * random(4, 8)).long()
    label[random(*label.shape) < 0.005] = _VOID
    logits = (8 * random(batch, num_classes, height, width) - 4).to(dtype)
    return logits, label, 0.5 + random(num_classes), 0.5 + random(*label.shape)
