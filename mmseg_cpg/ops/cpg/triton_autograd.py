"""CPG error on the GPU, alone or with a main loss, forward and backward, by the kernels of ``triton_kernels``.

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
from .cross_entropy import CrossEntropy
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
    error, num_entries, _, _ = _pixel_errors(logits, label, options, class_weight, None)
    return error, num_entries


def triton_fused_errors(
    logits: Tensor,
    label: Tensor,
    options: CPGOptions,
    class_weight: Tensor | None,
    main: CrossEntropy,
    targets: BoundaryTargets | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :class:`~mmseg_cpg.ops.cpg.implementations.FusedErrors`. Otherwise as :func:`triton_squared_error`."""
    error, num_entries, main_error, label_weight = _pixel_errors(logits, label, options, class_weight, main)
    return main_error, label_weight, error, num_entries


def _pixel_errors(
    logits: Tensor, label: Tensor, options: CPGOptions, class_weight: Tensor | None, main: CrossEntropy | None
) -> tuple[Tensor, ...]:
    refuse_transforms('the triton CPG loss', "; implementation='dense' can be")
    if label.device.type == 'cpu':  # Triton's interpreter; on CUDA the kernel checks the ids
        check_pixels(logits, label, options.ignore_index)
    # The kernels take no stride of class weights.
    class_weight = None if class_weight is None else class_weight.contiguous()
    main_class_weight = None if main is None or main.class_weight is None else main.class_weight.contiguous()
    main_loss = kernels.NO_MAIN_LOSS.value
    if main is not None:
        main_loss = (kernels.BINARY_CROSS_ENTROPY if main.use_sigmoid else kernels.CROSS_ENTROPY).value
    return _PixelErrors.apply(logits, label, class_weight, main_class_weight, options, main_loss)


def _void_id(ignore_index: int) -> int:
    """``ignore_index``, or an id that no label has if it exceeds int64, in which the kernels compare."""
    return ignore_index if -(2**63) <= ignore_index < 2**63 else -(2**63)


class _PixelErrors(torch.autograd.Function):
    """CPG error (B, H, W), N, main error (B, H, W) and label weight; the last two are None without a main loss."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        label: Tensor,
        class_weight: Tensor | None,
        main_class_weight: Tensor | None,
        options: CPGOptions,
        main_loss: int,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        batch, num_classes, height, width = logits.shape
        num_tiles = batch * -(-height // kernels.TILE_Y.value) * -(-width // kernels.TILE_X.value)
        has_main_loss = main_loss != kernels.NO_MAIN_LOSS.value

        def like_label(dtype: torch.dtype) -> Tensor:
            return torch.empty(label.shape, dtype=dtype, device=label.device)

        def of_tiles(dtype: torch.dtype) -> Tensor:
            return torch.empty(num_tiles, dtype=dtype, device=label.device)

        num_ids = max(num_classes, 2)
        row_flags, valid = like_label(torch.int8), like_label(torch.int8)
        # The sigmoid needs neither maximum nor sum; the kernels do not touch what is passed instead.
        max_logit, inverse_sum = (
            (valid, valid) if options.use_sigmoid else [like_label(torch.float32) for _ in range(2)]
        )
        pixels = _Pixels(
            logits=logits,
            ids=like_label(torch.int16 if num_ids <= 2**15 else torch.int32),
            valid=valid,
            tile_flags=of_tiles(torch.int8),
            max_logit=max_logit,
            inverse_sum=inverse_sum,
            class_weight=class_weight,
            main_class_weight=main_class_weight,
        )
        error, num_entries, invalid = like_label(torch.float32), of_tiles(torch.int32), of_tiles(torch.int8)
        main_error = like_label(torch.float32) if has_main_loss else None
        label_weight = of_tiles(torch.float32) if has_main_loss else None
        programs, radius = _num_programs(num_tiles, logits.device), options.ksize // 2
        of_label = dict(RADIUS=radius, EXCLUDE=options.ignore_policy == 'exclude')
        if num_tiles:
            with _device_of(logits):
                kernels.scan_label_kernel[(num_tiles,)](
                    label_ptr=label,
                    ids_ptr=pixels.ids,
                    row_flags_ptr=row_flags,
                    invalid_ptr=invalid,
                    ignore_index=_void_id(options.ignore_index),
                    num_classes=num_ids,
                    height=height,
                    width=width,
                    **_strides('label', label, 'byx'),
                    **of_label,
                    **STREAMING,
                )
                torch._assert_async((invalid == 0).all())
                kernels.softmax_kernel[(num_tiles,)](
                    **pixels.of_logits(options),
                    **pixels.of_main_loss(main_loss),
                    row_flags_ptr=row_flags,
                    valid_ptr=valid,
                    main_error_ptr=main_error,
                    label_weight_ptr=label_weight,
                    **of_label,
                    **STREAMING,
                )
                kernels.error_kernel[(programs,)](
                    **pixels.of_logits(options),
                    **pixels.of_classes(options),
                    error_ptr=error,
                    num_entries_ptr=num_entries,
                    scratch_ptr=num_entries.new_empty(programs * (_patch_size(radius) + _patch_size(0))),
                    **BY_CLASS,
                )
        ctx.save_for_backward(*pixels)
        ctx.options, ctx.main_loss = options, main_loss
        num_entries = num_entries.sum()
        ctx.mark_non_differentiable(num_entries)
        if label_weight is not None:
            label_weight = label_weight.sum()
            ctx.mark_non_differentiable(num_entries, label_weight)
        return error, num_entries, main_error, label_weight

    @staticmethod
    def backward(
        ctx: Any, grad_error: Tensor, _: None, grad_main_error: Tensor | None, __: None
    ) -> tuple[Tensor | None, ...]:
        refuse_second_derivative('the triton CPG loss', "; implementation='dense' can be differentiated twice")
        pixels, options = _Pixels(*ctx.saved_tensors), ctx.options
        logits, radius = pixels.logits, options.ksize // 2
        num_tiles, num_classes, device = len(pixels.tile_flags), logits.shape[1], logits.device
        grad_logits = torch.empty_like(logits)
        if not num_tiles:
            return grad_logits, *[None] * 5
        programs = _num_programs(num_tiles, device)
        scratch_size = programs * (_patch_size(2 * radius) + _patch_size(radius))
        grad_scratch_size = programs * (2 * _patch_size(radius) + kernels.CACHED_CLASSES.value * _patch_size(0))
        # Without a main loss the kernels do not touch its gradient.
        grad_main_error = grad_error if grad_main_error is None else grad_main_error
        arguments = dict(
            **pixels.of_logits(options),
            **pixels.of_main_loss(ctx.main_loss),
            grad_main_error_ptr=grad_main_error,
            grad_logits_ptr=grad_logits,
            softmax_dot_ptr=None if options.use_sigmoid else torch.empty_like(pixels.max_logit),
            class_done_ptr=torch.zeros(num_tiles, num_classes, dtype=torch.int8, device=device),
            **_strides('grad_main_error', grad_main_error, 'byx'),
            **_strides('grad_logits', grad_logits, 'bcyx'),
        )
        with _device_of(logits):
            kernels.class_gradient_kernel[(programs,)](
                **arguments,
                **pixels.of_classes(options),
                grad_error_ptr=grad_error,
                border_weights_ptr=_border_weights(options.ksize, device),
                scratch_ptr=torch.empty(scratch_size, dtype=torch.int32, device=device),
                grad_scratch_ptr=torch.empty(grad_scratch_size, dtype=torch.float32, device=device),
                **_strides('grad_error', grad_error, 'byx'),
                **BY_CLASS,
            )
            kernels.gradient_kernel[(num_tiles,)](**arguments, **STREAMING)
        return grad_logits, *[None] * 5


class _Pixels(NamedTuple):
    """What the kernels know about the pixels, kept for the backward; attributes are named as the kernels' pointers."""

    logits: Tensor
    ids: Tensor
    valid: Tensor
    tile_flags: Tensor
    max_logit: Tensor
    inverse_sum: Tensor
    class_weight: Tensor | None
    main_class_weight: Tensor | None

    def of_logits(self, options: CPGOptions) -> dict[str, Any]:
        """Arguments of all kernels that read the logits."""
        return dict(
            logits_ptr=self.logits,
            ids_ptr=self.ids,
            tile_flags_ptr=self.tile_flags,
            max_logit_ptr=self.max_logit,
            inverse_sum_ptr=self.inverse_sum,
            height=self.logits.shape[2],
            width=self.logits.shape[3],
            **_strides('logits', self.logits, 'bcyx'),
            SIGMOID=options.use_sigmoid,
            FIRST=int(self.logits.shape[1] == 1),
        )

    def of_main_loss(self, main_loss: int) -> dict[str, Any]:
        """Further arguments of the kernels that compute the main loss or its gradient."""
        return dict(
            main_class_weight_ptr=self.main_class_weight,
            num_classes=self.logits.shape[1],
            MAIN_LOSS=main_loss,
            HAS_MAIN_CLASS_WEIGHT=self.main_class_weight is not None,
        )

    def of_classes(self, options: CPGOptions) -> dict[str, Any]:
        """Further arguments of the kernels that go through the classes of a tile."""
        return dict(
            valid_ptr=self.valid,
            class_weight_ptr=self.class_weight,
            num_tiles=len(self.tile_flags),
            RADIUS=options.ksize // 2,
            DENOMINATOR=sobel_numerators(options.ksize)[1],
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
