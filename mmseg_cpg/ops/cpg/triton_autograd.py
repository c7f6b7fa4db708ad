"""CPG error on the GPU, forward and backward, by the kernels of ``triton_kernels``.

The boundary is found in the kernels, in integers, while they read the label: nothing waits for the device, with and
without precomputed targets. Only this file and ``triton_kernels`` need triton; import it where it is called.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._common import refuse_second_derivative, refuse_transforms
from .._validation import check_pixels
from . import triton_kernels as kernels
from .options import CPGOptions
from .sobel import sobel_numerators
from .targets import BoundaryTargets

# Enough to fill a GPU however many the registers allow. Each program has its own scratch memory.
_PROGRAMS_PER_PROCESSOR = 8
# The kernels that go through classes have threads that wait for each other most of the time: many small programs are
# better than few large ones.
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

    Logits must be float16, bfloat16 or float32, with H W < 2^31. On CUDA an invalid id is treated as void until the
    device assertion is raised.
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
    """Error of each pixel, (B, H, W), and N."""

    @staticmethod
    def forward(
        ctx, logits: Tensor, label: Tensor, class_weight: Tensor | None, options: CPGOptions
    ) -> tuple[Tensor, Tensor]:
        batch, num_classes, height, width = logits.shape
        error = logits.new_empty(label.shape, dtype=torch.float32)
        if not error.numel():
            ctx.save_for_backward(logits)
            num_entries = torch.zeros((), dtype=torch.int64, device=logits.device)
            ctx.mark_non_differentiable(num_entries)
            return error, num_entries

        def like_label(dtype: torch.dtype) -> Tensor:
            return torch.empty(label.shape, dtype=dtype, device=label.device)

        num_tiles = batch * -(-height // kernels.TILE_Y.value) * -(-width // kernels.TILE_X.value)
        num_ids = max(num_classes, 2)
        row_flags, valid = like_label(torch.int8), like_label(torch.int8)
        tile_flags, invalid = row_flags.new_empty(num_tiles), row_flags.new_empty(num_tiles)
        # The sigmoid needs neither maximum nor sum; the kernels do not touch what is passed instead.
        max_logit, inverse_sum = (
            (valid, valid) if options.use_sigmoid else [like_label(torch.float32) for _ in range(2)]
        )
        ids = like_label(torch.int16 if num_ids <= 2**15 else torch.int32)
        pixels = _Pixels(logits, ids, valid, tile_flags, max_logit, inverse_sum, class_weight)
        num_entries = torch.empty(num_tiles, dtype=torch.int32, device=label.device)
        programs = _num_programs(num_tiles, logits.device)
        radius, exclude = options.ksize // 2, options.ignore_policy == 'exclude'
        with _device_of(logits):
            kernels.scan_label_kernel[(num_tiles,)](
                label_ptr=label,
                ids_ptr=ids,
                row_flags_ptr=row_flags,
                invalid_ptr=invalid,
                ignore_index=_void_id(options.ignore_index),
                num_classes=num_ids,
                height=height,
                width=width,
                **_strides('label', label, 'byx'),
                RADIUS=radius,
                EXCLUDE=exclude,
                **STREAMING,
            )
            torch._assert_async((invalid == 0).all())
            kernels.softmax_kernel[(num_tiles,)](
                **pixels.softmax_arguments(options),
                ids_ptr=ids,
                row_flags_ptr=row_flags,
                valid_ptr=valid,
                num_classes=num_classes,
                RADIUS=radius,
                EXCLUDE=exclude,
                **STREAMING,
            )
            kernels.error_kernel[(programs,)](
                **pixels.by_class_arguments(options),
                error_ptr=error,
                num_entries_ptr=num_entries,
                scratch_ptr=num_entries.new_empty(programs * (_patch_size(radius) + _patch_size(0))),
                **BY_CLASS,
            )
        ctx.save_for_backward(*pixels)
        ctx.options = options
        num_entries = num_entries.sum()
        ctx.mark_non_differentiable(num_entries)
        return error, num_entries

    @staticmethod
    def backward(ctx, grad_error: Tensor, _) -> tuple[Tensor, None, None, None]:
        refuse_second_derivative('the triton CPG loss', "; implementation='dense' can be differentiated twice")
        logits = ctx.saved_tensors[0]
        grad_logits = torch.empty_like(logits)
        if not grad_logits.numel():
            return grad_logits, None, None, None
        pixels, options, radius = _Pixels(*ctx.saved_tensors), ctx.options, ctx.options.ksize // 2
        num_tiles, num_classes, device = len(pixels.tile_flags), logits.shape[1], logits.device
        programs = _num_programs(num_tiles, device)
        scratch_size = programs * (_patch_size(2 * radius) + _patch_size(radius))
        grad_scratch_size = programs * (2 * _patch_size(radius) + kernels.CACHED_CLASSES.value * _patch_size(0))
        gradient_arguments = dict(
            grad_logits_ptr=grad_logits,
            softmax_dot_ptr=None if options.use_sigmoid else torch.empty_like(pixels.max_logit),
            class_done_ptr=torch.zeros(num_tiles, num_classes, dtype=torch.int8, device=device),
            num_classes=num_classes,
            **_strides('grad_logits', grad_logits, 'bcyx'),
        )
        with _device_of(logits):
            kernels.class_gradient_kernel[(programs,)](
                **pixels.by_class_arguments(options),
                **gradient_arguments,
                grad_error_ptr=grad_error,
                border_weights_ptr=_border_weights(options.ksize, device),
                scratch_ptr=torch.empty(scratch_size, dtype=torch.int32, device=device),
                grad_scratch_ptr=torch.empty(grad_scratch_size, dtype=torch.float32, device=device),
                **_strides('grad_error', grad_error, 'byx'),
                **BY_CLASS,
            )
            kernels.gradient_kernel[(num_tiles,)](
                **pixels.softmax_arguments(options), **gradient_arguments, **STREAMING
            )
        return grad_logits, None, None, None


class _Pixels(NamedTuple):
    """What all kernels know about the pixels, kept for the backward; attributes are named as the kernels' pointers."""

    logits: Tensor
    ids: Tensor
    valid: Tensor
    tile_flags: Tensor
    max_logit: Tensor
    inverse_sum: Tensor
    class_weight: Tensor | None

    def softmax_arguments(self, options: CPGOptions) -> dict[str, Any]:
        """Arguments of all kernels that read the logits."""
        return dict(
            logits_ptr=self.logits,
            tile_flags_ptr=self.tile_flags,
            max_logit_ptr=self.max_logit,
            inverse_sum_ptr=self.inverse_sum,
            height=self.logits.shape[2],
            width=self.logits.shape[3],
            **_strides('logits', self.logits, 'bcyx'),
            SIGMOID=options.use_sigmoid,
        )

    def by_class_arguments(self, options: CPGOptions) -> dict[str, Any]:
        """Arguments of the kernels that go through the classes of a tile."""
        return dict(
            self.softmax_arguments(options),
            ids_ptr=self.ids,
            valid_ptr=self.valid,
            class_weight_ptr=self.class_weight,
            num_tiles=len(self.tile_flags),
            RADIUS=options.ksize // 2,
            DENOMINATOR=sobel_numerators(options.ksize)[1],
            FIRST=int(self.logits.shape[1] == 1),
            HAS_CLASS_WEIGHT=self.class_weight is not None,
        )


def _strides(name: str, tensor: Tensor, axes: str) -> dict[str, int]:
    """The strides of a tensor as a kernel's arguments."""
    return {f'{name}_{axis}': stride for axis, stride in zip(axes, tensor.stride(), strict=True)}


def _patch_size(halo_px: int) -> int:
    return (kernels.TILE_Y.value + 2 * halo_px) * (kernels.TILE_X.value + 2 * halo_px)


def _num_programs(num_tiles: int, device: torch.device) -> int:
    if device.type == 'cpu':  # Triton's interpreter; two, so that programs have several tiles
        return min(num_tiles, 2)
    return min(num_tiles, _PROGRAMS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count)


def _device_of(tensor: Tensor) -> AbstractContextManager:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@cache
def _border_weights(ksize: int, device: torch.device) -> Tensor:
    """Weights of the transposed correlation at the image's borders, (4, 4, k, k) float32.

    Replicate padding maps all offsets beyond the border to it, so the kernel's numerators add up there. First index
    along y, second along x; 0: a pixel off the border, 1: in the first line, 2: in the last, 3: in both.
    """
    rows = np.array(sobel_numerators(ksize)[0], dtype=np.int64)

    def fold(rows: np.ndarray, axis: int) -> list[np.ndarray]:
        after = np.flip(np.flip(rows, axis).cumsum(axis), axis)
        return [rows, rows.cumsum(axis), after, np.broadcast_to(rows.sum(axis, keepdims=True), rows.shape)]

    table = np.stack([np.stack(fold(along_y, 1)) for along_y in fold(rows, 0)])
    return torch.from_numpy(table).to(device, torch.float32)
