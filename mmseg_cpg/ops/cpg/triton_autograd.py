"""CPG error on the GPU, forward and backward, by the kernels of ``triton_kernels``.

The boundary is found in the kernels, in integers, while they read the label: nothing waits for the device, with and
without precomputed targets. Only this file and ``triton_kernels`` need triton; import it where it is called.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .._common import refuse_second_derivative, refuse_transforms
from .._validation import check_pixels
from . import triton_kernels as kernels
from .options import CPGOptions
from .sobel import sobel_numerators
from .targets import BoundaryTargets

# Enough to fill a GPU whatever the registers allow; also the number of scratch memories.
_PROGRAMS_PER_PROCESSOR = 8
# Kernels that stream through memory, and those that go through classes: these wait for each other's threads most of
# the time, so that many small programs are better than few fast ones.
STREAMING = dict(num_warps=8, num_stages=1)
BY_CLASS = dict(num_warps=4, num_stages=1, maxnreg=96)


def triton_squared_error(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    class_weight: Tensor | None,
    targets: BoundaryTargets | None,
) -> tuple[Tensor, Tensor]:
    """See :class:`~mmseg_cpg.ops.cpg.implementations.SquaredError`. Precomputed targets are ignored.

    Differentiable once. Between forward and backward it keeps 11 bytes per pixel in addition to the logits (13 with
    more than 2^15 classes): the class ids, which pixels are valid, and the softmax's maximum and sum.

    Args:
        logits: float16, bfloat16 or float32, H W < 2^31.
        label: An invalid id on CUDA is void until the device assertion is met.
        options: See the protocol.
        class_weight: See the protocol.
        targets: Ignored.
    """
    refuse_transforms('the triton CPG loss', "; implementation='dense' can be")
    if label.device.type == 'cpu':  # Triton's interpreter; on CUDA the kernel checks the ids
        check_pixels(logits, label, options.ignore_index)
    if class_weight is not None:
        class_weight = class_weight.contiguous()  # the kernels take no stride of it
    return _SquaredError.apply(logits, label, class_weight, options)


def _void_id(ignore_index: int) -> int:
    """``ignore_index``, or an id that no label has if it exceeds int64, in which the kernels compare."""
    return ignore_index if -(2**63) <= ignore_index < 2**63 else -(2**63)


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, logits: Tensor, label: Tensor, class_weight: Tensor | None, options: CPGOptions
    ) -> tuple[Tensor, Tensor]:
        batch, num_classes, height, width = logits.shape
        radius = options.ksize // 2
        error = logits.new_empty(label.shape, dtype=torch.float32)
        if not error.numel():
            ctx.save_for_backward(logits)
            count = torch.zeros((), dtype=torch.int64, device=logits.device)
            ctx.mark_non_differentiable(count)
            return error, count

        def like_label(dtype: torch.dtype) -> Tensor:
            return torch.empty(label.shape, dtype=dtype, device=label.device)

        num_ids = max(num_classes, 2)
        ids = like_label(torch.int16 if num_ids <= 2**15 else torch.int32)
        near, counted = like_label(torch.int8), like_label(torch.int8)
        num_tiles = batch * -(-height // kernels.TILE_Y.value) * -(-width // kernels.TILE_X.value)
        tiles, invalid = near.new_empty(num_tiles), near.new_empty(num_tiles)
        # The sigmoid needs neither maximum nor sum, and the kernels read neither.
        stats = (counted, counted) if options.use_sigmoid else [like_label(torch.float32) for _ in range(2)]
        entries = torch.empty(num_tiles, dtype=torch.int32, device=label.device)
        programs = _num_programs(num_tiles, logits.device)
        scratch = entries.new_empty(programs * (_patch_size(radius) + _patch_size(0)))
        size = (height, width)
        with _device_of(logits):
            kernels.scan_label_kernel[(num_tiles,)](
                label, ids, near, invalid,
                _void_id(options.ignore_index), num_ids, *size, *label.stride(),
                radius, options.ignore_policy == 'exclude', **STREAMING,
            )  # fmt: skip
            torch._assert_async((invalid == 0).all())
            kernels.softmax_kernel[(num_tiles,)](
                logits, ids, near, counted, tiles, *stats,
                num_classes, *size, *logits.stride(),
                radius, options.ignore_policy == 'exclude', options.use_sigmoid, **STREAMING,
            )  # fmt: skip
            kernels.error_kernel[(programs,)](
                logits, ids, counted, tiles, *stats, class_weight, error, entries, scratch,
                num_tiles, *size, *logits.stride(), *_constants(options, num_classes, class_weight), **BY_CLASS,
            )  # fmt: skip
        ctx.save_for_backward(logits, ids, counted, tiles, *stats, class_weight)
        ctx.options = options
        count = entries.sum()
        ctx.mark_non_differentiable(count)
        return error, count

    @staticmethod
    def backward(ctx, grad_output: Tensor, _) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative('the triton CPG loss', "; implementation='dense' can be differentiated twice")
        logits, *saved = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        if not gradient.numel():
            return gradient, None, None, None
        ids, counted, tiles, *stats, class_weight = saved
        options, num_classes, radius = ctx.options, logits.shape[1], ctx.options.ksize // 2
        programs = _num_programs(len(tiles), logits.device)
        scratch_size = programs * (_patch_size(2 * radius) + _patch_size(radius))
        scratch = torch.empty(scratch_size, dtype=torch.int32, device=logits.device)
        slots_size = programs * (2 * _patch_size(radius) + kernels.SLOTS.value * _patch_size(0))
        slots = torch.empty(slots_size, dtype=torch.float32, device=logits.device)
        shared = None if options.use_sigmoid else torch.empty_like(stats[0])
        written = torch.zeros(len(tiles), num_classes, dtype=torch.int8, device=logits.device)
        size = logits.shape[2:]
        with _device_of(logits):
            kernels.class_gradient_kernel[(programs,)](
                logits, ids, counted, tiles, *stats, class_weight, grad_output,
                _folded_numerators(options.ksize, logits.device), gradient, shared, written, scratch, slots,
                len(tiles), num_classes, *size, *logits.stride(), *grad_output.stride(), *gradient.stride(),
                *_constants(options, num_classes, class_weight), **BY_CLASS,
            )  # fmt: skip
            kernels.gradient_kernel[(len(tiles),)](
                logits, tiles, *stats, shared, written, gradient,
                num_classes, *size, *logits.stride(), *gradient.stride(), options.use_sigmoid, **STREAMING,
            )  # fmt: skip
        return gradient, None, None, None


def _constants(options: CPGOptions, num_classes: int, class_weight: Tensor | None) -> tuple[int, int, bool, int, bool]:
    """RADIUS, DENOMINATOR, SIGMOID, FIRST (the class of channel 0) and HAS_CLASS_WEIGHT of a kernel."""
    denominator = sobel_numerators(options.ksize)[1]
    first = int(num_classes == 1)
    return options.ksize // 2, denominator, options.use_sigmoid, first, class_weight is not None


def _patch_size(halo_px: int) -> int:
    return (kernels.TILE_Y.value + 2 * halo_px) * (kernels.TILE_X.value + 2 * halo_px)


def _num_programs(num_tiles: int, device: torch.device) -> int:
    if device.type == 'cpu':  # Triton's interpreter; two, so that programs have several tiles
        return min(num_tiles, 2)
    return min(num_tiles, _PROGRAMS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count)


def _device_of(tensor: Tensor) -> AbstractContextManager:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@cache
def _folded_numerators(ksize: int, device: torch.device) -> Tensor:
    """Weights of the transposed correlation at the image's borders, (4, 4, k, k) float32.

    Replicate padding maps all offsets that lead beyond the border to it, so that there the kernel's numerators add up:
    along y (first index) and x (second), for 0: a pixel off the border, 1: in the first line, 2: in the last, 3: both.
    """
    rows = np.array(sobel_numerators(ksize)[0], dtype=np.int64)

    def fold(rows: np.ndarray, axis: int) -> list[np.ndarray]:
        after = np.flip(np.flip(rows, axis).cumsum(axis), axis)
        return [rows, rows.cumsum(axis), after, np.broadcast_to(rows.sum(axis, keepdims=True), rows.shape)]

    table = np.stack([np.stack(fold(along_y, 1)) for along_y in fold(rows, 0)])
    return torch.from_numpy(table).to(device, torch.float32)
