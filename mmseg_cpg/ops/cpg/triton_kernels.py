r"""Triton kernels of the CPG loss, with or without a main loss in the same pass over the logits.

From label and logits straight to the errors of each pixel and the logits' gradient.

Derivation
    z: logits; P: softmax or sigmoid of z (Eq. 12); T: one-hot label; w: class weights; S: Sobel-like kernels with the
    common denominator d (Eq. 8, 9); G = S * T and Ĝ = S * P (Eq. 5), times d: ``edge_true`` and ``edge_pred``; their
    difference is the ``residual``. M = [G != 0] at valid pixels (Eq. 13). With g the gradient of the pixels' errors::

        error      = sum over c and directions of  w_c M (residual / d)^2        (Eq. 14)
        dL/dĜ      = 2 g w_c M residual / d^2                                    ``grad_edge``
        a = dL/dP  = transposed correlation of dL/dĜ with S                      ``grad_prob``
        s          = sum over c of P_c a_c                                       ``softmax_dot``
        dL/dz_c    = P_c (a_c - s), or P_c (1 - P_c) a_c for the sigmoid         ``grad_logits``

    A class has a_c != 0 only in tiles with pixels of it within 2 r, r = (k - 1) / 2, since G = 0 elsewhere. Of all
    other classes dL/dz_c = -P_c s is left, or 0 for the sigmoid.

    The main loss, if any, is cross-entropy or binary cross-entropy (MAIN_LOSS). y: class of a pixel, void pixels have
    none; v: class weights of the main loss; f: the gradient of the pixels' main errors. It adds to dL/dz_c::

        cross-entropy:  main_error = v_y (log(sum over c of exp(z_c)) - z_y)     gradient  f v_y (P_c - T_c)
        binary:         main_error = v_y log(1 + exp(-z_y))
                                     + sum over c != y of log(1 + exp(z_c))      gradient  f sigmoid(z_c) for c != y,
                                                                                 -f v_y sigmoid(-z_y) for c = y

Kernels
    1. ``scan_label_kernel``: label -> class ids; edges and void in the row of each pixel.
    2. ``softmax_kernel``: those in its columns -> valid and receptive pixels; maximum and sum of the softmax at
       the latter. With a main loss: its error, and maximum and sum at all pixels with a class.
    3. ``error_kernel``: error of each pixel and number of boundary entries (Eq. 14, 15).
    4. ``class_gradient_kernel``: s, and dL/dz of the classes in each tile with receptive pixels.
    5. ``gradient_kernel``: dL/dz of everything else, zeros included.

Memory
    Per pixel, kept for the backward: class id (2 or 4 bytes), valid (1), maximum and sum (8). Per pixel, temporary:
    row flags (1) in the forward, s (4) in the backward. Images are cut into tiles of TILE_Y x TILE_X pixels, one thread
    each. Kernels 3 and 4 run a fixed number of programs, each with scratch memory that stays in the caches: it carries
    P and T of one class (a "patch": the tile and a halo) and dL/dĜ from thread to thread. The logits are read once by
    kernel 2, near boundaries by 3 and 4, and where s != 0 by 5; the gradient is written once. With a main loss kernels
    2 and 5 read all logits of pixels with a class: both losses together read the logits twice, near boundaries four
    times, and write one gradient. Sums have a fixed order: results are the same in every run.

Pointers end in ``_ptr``. Integer arguments named after a tensor and an axis are its strides, as in ``logits_c``.
Products with a stride are int64; pixel indices within an image are int32, which limits images to 2^31 pixels.
"""

from __future__ import annotations

import triton
import triton.language as tl

TILE_Y, TILE_X = tl.constexpr(8), tl.constexpr(32)
BLOCK = tl.constexpr(TILE_Y.value * TILE_X.value)
# Channels read at a time where all are read.
CHANNELS = tl.constexpr(8)
# Classes of a tile whose dL/dP is cached; few tiles have more.
CACHED_CLASSES = tl.constexpr(8)
NO_CLASS = tl.constexpr(2**31 - 1)
# Flags of a pixel, see scan_label_kernel.
EDGE_IN_WINDOW, EDGE_IN_REACH, VOID_IN_WINDOW = tl.constexpr(1), tl.constexpr(2), tl.constexpr(4)
# Flags of a tile, see softmax_kernel.
RECEPTIVE, VALID = tl.constexpr(1), tl.constexpr(2)
# Values of MAIN_LOSS.
NO_MAIN_LOSS, CROSS_ENTROPY, BINARY_CROSS_ENTROPY = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def _class_id(value, ignore_index, num_classes):
    value = value.to(tl.int64)  # unsigned dtypes have no -1
    is_class = (value >= 0) & (value < num_classes) & (value != ignore_index)
    return tl.where(is_class, value, -1).to(tl.int32)


@triton.jit
def _is_edge(one, other, EXCLUDE: tl.constexpr):
    # With 'exclude' a window with a void pixel is not valid, so edges of void do not matter.
    return (one != other) & (one >= 0) & (other >= 0) if EXCLUDE else one != other


@triton.jit
def _tile_origin(tile, height, width):
    """Image, and row and column of the first pixel, of a tile."""
    columns = tl.cdiv(width, TILE_X)
    rows = tl.cdiv(height, TILE_Y)
    line = tile // columns
    return (line // rows).to(tl.int64), line % rows * TILE_Y, tile % columns * TILE_X


@triton.jit
def _tile_pixels(top, left, height, width):
    """Row and column of each pixel of a tile, and whether it is inside the image."""
    lane = tl.arange(0, BLOCK)
    y = top + lane // TILE_X
    x = left + lane % TILE_X
    return y, x, (y < height) & (x < width)


@triton.jit
def scan_label_kernel(
    label_ptr, ids_ptr, row_flags_ptr, invalid_ptr,
    ignore_index, num_classes, height, width, label_b, label_y, label_x,
    RADIUS: tl.constexpr, EXCLUDE: tl.constexpr,
):  # fmt: skip
    """Class ids of the label, and what its rows say about edges and void near each pixel.

    One program per tile. An edge lies between a pixel and its right or lower neighbor. A pixel is valid if an edge is
    in its k x k window, which reaches RADIUS = r pixels; it is receptive if a valid pixel is that near, so if an edge
    is at most 2 r away. This kernel looks along rows, ``softmax_kernel`` along columns.

    Args:
        label_ptr: In, (B, H, W) integer with strides ``label_*``.
        ids_ptr: Out, (B, H, W) int16 or int32, class ids, -1 for void and invalid ids.
        row_flags_ptr: Out, (B, H, W) int8, EDGE_IN_WINDOW, EDGE_IN_REACH and VOID_IN_WINDOW of the pixel's row.
        invalid_ptr: Out, (tiles,) int8, whether the tile has an id that is neither a class nor ``ignore_index``.
    """
    tile = tl.program_id(0)
    image, top, left = _tile_origin(tile, height, width)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel = image * height * width + y * width + x
    row = label_ptr + image * label_b + y.to(tl.int64) * label_y
    below = label_ptr + image * label_b + tl.minimum(y + 1, height - 1).to(tl.int64) * label_y
    flags = tl.zeros([BLOCK], tl.int32)
    first = tl.maximum(x - 2 * RADIUS, 0).to(tl.int64) * label_x
    right = _class_id(tl.load(row + first, mask=inside, other=0), ignore_index, num_classes)
    for offset in tl.static_range(-2 * RADIUS, 2 * RADIUS + 1):
        column = tl.minimum(tl.maximum(x + offset, 0), width - 1).to(tl.int64) * label_x
        after = tl.minimum(tl.maximum(x + offset + 1, 0), width - 1).to(tl.int64) * label_x
        here = right
        right = _class_id(tl.load(row + after, mask=inside, other=0), ignore_index, num_classes)
        under = _class_id(tl.load(below + column, mask=inside, other=0), ignore_index, num_classes)
        is_edge = _is_edge(here, right, EXCLUDE) | _is_edge(here, under, EXCLUDE)
        flags |= tl.where(is_edge, EDGE_IN_REACH, 0)
        if offset >= -RADIUS and offset <= RADIUS:
            flags |= tl.where(is_edge, EDGE_IN_WINDOW, 0) | tl.where(here < 0, VOID_IN_WINDOW, 0)
    own_label = tl.load(row + x.to(tl.int64) * label_x, mask=inside, other=0).to(tl.int64)
    own_id = _class_id(own_label, ignore_index, num_classes)
    tl.store(ids_ptr + pixel, own_id.to(ids_ptr.dtype.element_ty), mask=inside)
    tl.store(row_flags_ptr + pixel, flags.to(tl.int8), mask=inside)
    is_invalid = inside & (own_id < 0) & (own_label != ignore_index)
    tl.store(invalid_ptr + tile, tl.max(is_invalid.to(tl.int8), 0))


@triton.jit
def _sigmoid(z):
    return 1 / (1 + tl.exp(-z))


@triton.jit
def _softplus(z):
    """log(1 + exp(z))."""
    return tl.maximum(z, 0.0) + tl.log(1 + tl.exp(-tl.abs(z)))


@triton.jit
def _own_weight(main_class_weight_ptr, own_id, FIRST: tl.constexpr):
    """Class weight in the main loss of pixels of class ``own_id``; 1 where that is void or has no channel."""
    return tl.load(main_class_weight_ptr + own_id - FIRST, mask=own_id >= FIRST, other=1.0)


@triton.jit
def softmax_kernel(
    logits_ptr, ids_ptr, row_flags_ptr, main_class_weight_ptr,
    valid_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr, main_error_ptr, label_weight_ptr,
    num_classes, height, width, logits_b, logits_c, logits_y, logits_x,
    RADIUS: tl.constexpr, EXCLUDE: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    MAIN_LOSS: tl.constexpr, HAS_MAIN_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """Valid and receptive pixels, the softmax's maximum and sum, and the main loss.

    One program per tile.

    Args:
        logits_ptr: In, (B, C, H, W) with strides ``logits_*``.
        ids_ptr, row_flags_ptr: In, from ``scan_label_kernel``.
        main_class_weight_ptr: In, (C,) float32; not read unless HAS_MAIN_CLASS_WEIGHT.
        valid_ptr: Out, (B, H, W) int8, 1 at pixels whose window has an edge and which the void policy keeps.
        tile_flags_ptr: Out, (tiles,) int8, whether the tile has RECEPTIVE and VALID pixels.
        max_logit_ptr, inverse_sum_ptr: Out, (B, H, W) float32, max(z) and 1 / sum(exp(z - max(z))) at receptive pixels,
            with CROSS_ENTROPY at pixels with a class too; not written elsewhere, nor with SIGMOID.
        main_error_ptr: Out, (B, H, W) float32, the main loss, 0 at void pixels; not written with NO_MAIN_LOSS.
        label_weight_ptr: Out, (tiles,) float32, number of pixels with a class, with CROSS_ENTROPY the sum of their
            class weights; not written with NO_MAIN_LOSS.
        FIRST: Class of channel 0: 1 for a single channel, else 0.
    """
    tile = tl.program_id(0)
    image, top, left = _tile_origin(tile, height, width)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel = image * height * width + y * width + x
    flags = tl.zeros([BLOCK], tl.int32)
    for offset in tl.static_range(-2 * RADIUS, 2 * RADIUS + 1):
        row = tl.minimum(tl.maximum(y + offset, 0), height - 1)
        found = tl.load(row_flags_ptr + image * height * width + row * width + x, mask=inside, other=0).to(tl.int32)
        flags |= found if offset >= -RADIUS and offset <= RADIUS else found & EDGE_IN_REACH
    own_id = tl.full([BLOCK], -1, tl.int32)
    if not EXCLUDE or MAIN_LOSS != NO_MAIN_LOSS:
        own_id = tl.load(ids_ptr + pixel, mask=inside, other=-1).to(tl.int32)
    if EXCLUDE:
        is_valid = (flags & (EDGE_IN_WINDOW | VOID_IN_WINDOW)) == EDGE_IN_WINDOW
    else:
        is_valid = ((flags & EDGE_IN_WINDOW) != 0) & (own_id >= 0)
    is_receptive = (flags & EDGE_IN_REACH) != 0
    tl.store(valid_ptr + pixel, is_valid.to(tl.int8), mask=inside)
    flags = tl.where(is_receptive, RECEPTIVE, 0) | tl.where(is_valid, VALID, 0)
    tile_is_receptive = tl.max(flags & RECEPTIVE, 0)
    tl.store(tile_flags_ptr + tile, (tile_is_receptive | tl.max(flags & VALID, 0)).to(tl.int8))

    is_read = is_receptive
    tile_is_read = tile_is_receptive
    if MAIN_LOSS != NO_MAIN_LOSS:
        is_read = is_receptive | (own_id >= 0)
        tile_is_read = tl.max(is_read.to(tl.int32), 0)
        weight = tl.full([BLOCK], 1.0, tl.float32)
        if HAS_MAIN_CLASS_WEIGHT:
            weight = _own_weight(main_class_weight_ptr, own_id, FIRST)
        label_weight = tl.where(own_id >= 0, weight if MAIN_LOSS == CROSS_ENTROPY else 1.0, 0.0)
        tl.store(label_weight_ptr + tile, tl.sum(label_weight, 0))
    main_error = tl.zeros([BLOCK], tl.float32)
    if not SIGMOID or MAIN_LOSS != NO_MAIN_LOSS:
        if tile_is_read != 0:
            own = image * logits_b + y.to(tl.int64) * logits_y + x.to(tl.int64) * logits_x
            max_logit = tl.full([BLOCK], float('-inf'), tl.float32)
            total = tl.zeros([BLOCK], tl.float32)
            own_logit = tl.zeros([BLOCK], tl.float32)
            start = 0
            while start < num_classes:
                channel = start + tl.arange(0, CHANNELS)
                z = tl.load(
                    logits_ptr + channel.to(tl.int64)[:, None] * logits_c + own[None, :],
                    mask=(channel < num_classes)[:, None] & is_read[None, :],
                    other=float('-inf'),
                ).to(tl.float32)
                is_own = (channel + FIRST)[:, None] == own_id[None, :]
                if MAIN_LOSS == CROSS_ENTROPY:
                    own_logit += tl.sum(tl.where(is_own, z, 0), 0)
                if MAIN_LOSS == BINARY_CROSS_ENTROPY:
                    error = _softplus(tl.where(is_own, -z, z))
                    if HAS_MAIN_CLASS_WEIGHT:
                        error *= tl.where(is_own, weight[None, :], 1)
                    main_error += tl.sum(error, 0)
                if not SIGMOID:
                    higher = tl.maximum(max_logit, tl.max(z, 0))
                    base = tl.where(higher == float('-inf'), 0.0, higher)
                    total = total * tl.exp(max_logit - base) + tl.sum(tl.exp(z - base[None, :]), 0)
                    # max drops a NaN, total keeps it.
                    max_logit = higher
                start += CHANNELS
            max_logit = tl.where(max_logit == float('-inf'), 0.0, max_logit)
            if not SIGMOID:
                has_softmax = is_read if MAIN_LOSS == CROSS_ENTROPY else is_receptive
                tl.store(max_logit_ptr + pixel, max_logit, mask=has_softmax)
                tl.store(inverse_sum_ptr + pixel, 1 / total, mask=has_softmax)
            if MAIN_LOSS == CROSS_ENTROPY:
                main_error = weight * (max_logit - own_logit + tl.log(total))
    if MAIN_LOSS != NO_MAIN_LOSS:
        tl.store(main_error_ptr + pixel, tl.where(own_id >= 0, main_error, 0), mask=inside)


@triton.jit
def _next_class(ids_ptr, class_index, top, left, height, width, HALO: tl.constexpr):
    """The lowest class above ``class_index`` in a tile and its halo, or NO_CLASS. ``ids_ptr``: of the image."""
    WIDTH: tl.constexpr = TILE_X + 2 * HALO
    SIZE: tl.constexpr = (TILE_Y + 2 * HALO) * WIDTH
    lowest = tl.full([BLOCK], NO_CLASS, tl.int32)
    start = 0
    while start < SIZE:
        position = tl.minimum(start + tl.arange(0, BLOCK), SIZE - 1)
        y = tl.minimum(tl.maximum(top - HALO + position // WIDTH, 0), height - 1)
        x = tl.minimum(tl.maximum(left - HALO + position % WIDTH, 0), width - 1)
        found = tl.load(ids_ptr + y * width + x).to(tl.int32)
        lowest = tl.minimum(lowest, tl.where(found > class_index, found, NO_CLASS))
        start += BLOCK
    return tl.min(lowest, 0)


@triton.jit
def _probability(z, max_logit_ptr, inverse_sum_ptr, pixel, mask, SIGMOID: tl.constexpr):
    """P of logits ``z`` at flat pixel indices ``pixel``."""
    if SIGMOID:
        probability = _sigmoid(z)
    else:
        max_logit = tl.load(max_logit_ptr + pixel, mask=mask, other=0)
        probability = tl.exp(z - max_logit) * tl.load(inverse_sum_ptr + pixel, mask=mask, other=0)
    return probability


@triton.jit
def _store_patch(
    patch_ptr, plane_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_index,
    top, left, height, width, logits_y, logits_x, HALO: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """Write P and T of a class in a tile and its halo, with replicate padding (Eq. 5), to scratch memory.

    P has no sign, so its sign bit stores T.

    Args:
        patch_ptr: Out, (TILE_Y + 2 HALO, TILE_X + 2 HALO) int32.
        plane_ptr: In, logits of the tile's image and class.
        ids_ptr, max_logit_ptr, inverse_sum_ptr: In, those of the tile's image.
    """
    WIDTH: tl.constexpr = TILE_X + 2 * HALO
    SIZE: tl.constexpr = (TILE_Y + 2 * HALO) * WIDTH
    start = 0
    while start < SIZE:
        position = start + tl.arange(0, BLOCK)
        inside = position < SIZE
        y = tl.minimum(tl.maximum(top - HALO + position // WIDTH, 0), height - 1)
        x = tl.minimum(tl.maximum(left - HALO + position % WIDTH, 0), width - 1)
        pixel = y * width + x
        z = tl.load(plane_ptr + y.to(tl.int64) * logits_y + x.to(tl.int64) * logits_x, mask=inside, other=0)
        probability = _probability(z.to(tl.float32), max_logit_ptr, inverse_sum_ptr, pixel, inside, SIGMOID)
        packed = probability.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        is_class = tl.load(ids_ptr + pixel, mask=inside, other=-1) == class_index
        tl.store(patch_ptr + position, tl.where(is_class, packed | -0x80000000, packed), mask=inside)
        start += BLOCK


@triton.jit
def _list_valid(positions_ptr, valid_ptr, top, left, height, width, HALO: tl.constexpr):
    """Write the positions of valid pixels in a tile and its halo to scratch memory; return their number."""
    WIDTH: tl.constexpr = TILE_X + 2 * HALO
    SIZE: tl.constexpr = (TILE_Y + 2 * HALO) * WIDTH
    length = 0
    start = 0
    while start < SIZE:
        position = start + tl.arange(0, BLOCK)
        y = top - HALO + position // WIDTH
        x = left - HALO + position % WIDTH
        inside = (position < SIZE) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        is_valid = tl.load(valid_ptr + y * width + x, mask=inside, other=0).to(tl.int32)
        tl.store(positions_ptr + length + tl.cumsum(is_valid, 0) - 1, position, mask=is_valid != 0)
        length += tl.sum(is_valid, 0)
        start += BLOCK
    return length


@triton.jit
def _residuals(patch_ptr, y, x, WIDTH: tl.constexpr, RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr):
    """Numerators of G and Ĝ - G, in x and y, for k x k windows with their first pixel at rows ``y``, columns ``x``."""
    edge_true_x = tl.zeros([BLOCK], tl.int32)
    edge_true_y = tl.zeros([BLOCK], tl.int32)
    residual_x = tl.zeros([BLOCK], tl.float32)
    residual_y = tl.zeros([BLOCK], tl.float32)
    # Pointers that differ by constants share one address register.
    center_ptr = patch_ptr + (y + RADIUS) * WIDTH + x + RADIUS
    for v in tl.static_range(-RADIUS, RADIUS + 1):
        for u in tl.static_range(-RADIUS, RADIUS + 1):
            # Weights of 0 stay in: a NaN anywhere in the window must reach the residual, as in a convolution.
            weight_x = DENOMINATOR * u // max(u * u + v * v, 1)
            weight_y = DENOMINATOR * v // max(u * u + v * v, 1)
            packed = tl.load(center_ptr + (v * WIDTH + u))
            true = (packed < 0).to(tl.int32)
            residual = (packed & 0x7FFFFFFF).to(tl.float32, bitcast=True) - true.to(tl.float32)
            edge_true_x += weight_x * true
            edge_true_y += weight_y * true
            residual_x += weight_x * residual
            residual_y += weight_y * residual
    return edge_true_x, edge_true_y, residual_x, residual_y


@triton.jit
def error_kernel(
    logits_ptr, ids_ptr, valid_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr, class_weight_ptr,
    error_ptr, num_entries_ptr, scratch_ptr,
    num_tiles, height, width, logits_b, logits_c, logits_y, logits_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """Error of each pixel (Eq. 14) and number of boundary entries of each tile.

    A fixed number of programs, each of which takes every n-th tile and goes through its classes.

    Args:
        logits_ptr: In, (B, C, H, W) with strides ``logits_*``.
        ids_ptr, valid_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr: In, from the kernels before.
        class_weight_ptr: In, (C,) float32; not read unless HAS_CLASS_WEIGHT.
        error_ptr: Out, (B, H, W) float32, 0 at pixels without entries.
        num_entries_ptr: Out, (tiles,) int32.
        scratch_ptr: Scratch, int32: of each program a patch (halo r), then the positions of valid pixels (no halo).
        FIRST: Class of channel 0: 1 for a single channel, else 0.
    """
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    PATCH: tl.constexpr = (TILE_Y + 2 * RADIUS) * WIDTH
    patch_ptr = scratch_ptr + tl.program_id(0).to(tl.int64) * (PATCH + BLOCK)
    positions_ptr = patch_ptr + PATCH
    lane = tl.arange(0, BLOCK)
    tile = tl.program_id(0)
    while tile < num_tiles:
        image, top, left = _tile_origin(tile, height, width)
        first = image * height * width
        y, x, inside = _tile_pixels(top, left, height, width)
        tl.store(error_ptr + first + y * width + x, 0.0, mask=inside)
        number = tl.zeros([BLOCK], tl.int32)
        if (tl.load(tile_flags_ptr + tile) & VALID) != 0:
            length = _list_valid(positions_ptr, valid_ptr + first, top, left, height, width, 0)
            class_index = _next_class(ids_ptr + first, FIRST - 1, top, left, height, width, RADIUS)
            while class_index != NO_CLASS:
                channel = (class_index - FIRST).to(tl.int64)
                _store_patch(
                    patch_ptr, logits_ptr + image * logits_b + channel * logits_c, ids_ptr + first,
                    max_logit_ptr + first, inverse_sum_ptr + first, class_index,
                    top, left, height, width, logits_y, logits_x, RADIUS, SIGMOID,
                )  # fmt: skip
                weight = 1.0
                if HAS_CLASS_WEIGHT:
                    weight = tl.load(class_weight_ptr + channel)
                tl.debug_barrier()
                start = 0
                while start < length:
                    is_listed = start + lane < length
                    position = tl.load(positions_ptr + start + lane, mask=is_listed, other=0)
                    y = position // TILE_X
                    x = position % TILE_X
                    true_x, true_y, residual_x, residual_y = _residuals(patch_ptr, y, x, WIDTH, RADIUS, DENOMINATOR)
                    is_x = is_listed & (true_x != 0)
                    is_y = is_listed & (true_y != 0)
                    residual_x = tl.where(is_x, residual_x / DENOMINATOR, 0)
                    residual_y = tl.where(is_y, residual_y / DENOMINATOR, 0)
                    # Each thread has the same positions for every class, so the sum needs no synchronization.
                    pixel = error_ptr + first + (top + y) * width + left + x
                    before = tl.load(pixel, mask=is_listed, other=0)
                    square = residual_x * residual_x + residual_y * residual_y
                    tl.store(pixel, before + weight * square, mask=is_listed)
                    number += is_x.to(tl.int32) + is_y.to(tl.int32)
                    start += BLOCK
                tl.debug_barrier()
                class_index = _next_class(ids_ptr + first, class_index, top, left, height, width, RADIUS)
        tl.store(num_entries_ptr + tile, tl.sum(number, 0))
        tile += tl.num_programs(0)


@triton.jit
def _adjoint(grad_edge_x_ptr, grad_edge_y_ptr, RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr):
    """Transposed correlation at the pixels of a tile: dL/dP from the dL/dĜ around them."""
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    lane = tl.arange(0, BLOCK)
    position = (lane // TILE_X + RADIUS) * WIDTH + lane % TILE_X + RADIUS
    total = tl.zeros([BLOCK], tl.float32)
    source_x_ptr = grad_edge_x_ptr + position
    source_y_ptr = grad_edge_y_ptr + position
    for v in tl.static_range(-RADIUS, RADIUS + 1):
        for u in tl.static_range(-RADIUS, RADIUS + 1):
            total += DENOMINATOR * u // max(u * u + v * v, 1) * tl.load(source_x_ptr + (-v * WIDTH - u))
            total += DENOMINATOR * v // max(u * u + v * v, 1) * tl.load(source_y_ptr + (-v * WIDTH - u))
    return total


@triton.jit
def _adjoint_at_border(grad_edge_x_ptr, grad_edge_y_ptr, y, x, height, width, border_weights_ptr, RADIUS: tl.constexpr):
    """The same at the image's border, whose pixels replicate padding reads several times.

    ``border_weights_ptr`` has the sums of the weights with which it does, see ``_border_weights``.
    """
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    KSIZE: tl.constexpr = 2 * RADIUS + 1
    lane = tl.arange(0, BLOCK)
    position = (lane // TILE_X + RADIUS) * WIDTH + lane % TILE_X + RADIUS
    mode_y = (y == 0).to(tl.int32) + 2 * (y == height - 1).to(tl.int32)
    mode_x = (x == 0).to(tl.int32) + 2 * (x == width - 1).to(tl.int32)
    weights_x_ptr = border_weights_ptr + (mode_y * 4 + mode_x) * KSIZE * KSIZE
    weights_y_ptr = border_weights_ptr + (mode_x * 4 + mode_y) * KSIZE * KSIZE
    total = tl.zeros([BLOCK], tl.float32)
    tap = 0
    while tap < KSIZE * KSIZE:
        v = tap // KSIZE
        u = tap % KSIZE
        source = position - (v - RADIUS) * WIDTH - (u - RADIUS)
        total += tl.load(weights_x_ptr + v * KSIZE + u) * tl.load(grad_edge_x_ptr + source)
        total += tl.load(weights_y_ptr + u * KSIZE + v) * tl.load(grad_edge_y_ptr + source)
        tap += 1
    return total


@triton.jit
def _grad_probability(
    class_index, logits_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_weight_ptr, grad_error_ptr,
    border_weights_ptr, patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr,
    length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """a = dL/dP of a class at the pixels of a tile.

    Args:
        class_index: The class.
        logits_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, grad_error_ptr: In, as in ``class_gradient_kernel``, but
            those of the tile's image.
        class_weight_ptr, border_weights_ptr: In, as in ``class_gradient_kernel``.
        patch_ptr: Scratch, (TILE_Y + 4 r, TILE_X + 4 r) int32.
        positions_ptr: In, (length,) int32, valid pixels in the tile and its halo of r, see ``_list_valid``.
        grad_edge_x_ptr, grad_edge_y_ptr: Scratch, (TILE_Y + 2 r, TILE_X + 2 r) float32, dL/dĜ; 0 at all pixels that are
            not listed.
        top, left: First pixel of the tile.
    """
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    channel = (class_index - FIRST).to(tl.int64)
    _store_patch(
        patch_ptr, logits_ptr + channel * logits_c, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_index,
        top, left, height, width, logits_y, logits_x, 2 * RADIUS, SIGMOID,
    )  # fmt: skip
    weight = 2.0 / (DENOMINATOR * DENOMINATOR)
    if HAS_CLASS_WEIGHT:
        weight *= tl.load(class_weight_ptr + channel)
    tl.debug_barrier()
    lane = tl.arange(0, BLOCK)
    start = 0
    while start < length:
        is_listed = start + lane < length
        position = tl.load(positions_ptr + start + lane, mask=is_listed, other=0)
        y = position // WIDTH
        x = position % WIDTH
        true_x, true_y, residual_x, residual_y = _residuals(patch_ptr, y, x, WIDTH + 2 * RADIUS, RADIUS, DENOMINATOR)
        row = (top - RADIUS + y).to(tl.int64) * grad_error_y
        column = (left - RADIUS + x).to(tl.int64) * grad_error_x
        upstream = weight * tl.load(grad_error_ptr + row + column, mask=is_listed, other=0)
        tl.store(grad_edge_x_ptr + position, tl.where(true_x != 0, upstream * residual_x, 0), mask=is_listed)
        tl.store(grad_edge_y_ptr + position, tl.where(true_y != 0, upstream * residual_y, 0), mask=is_listed)
        start += BLOCK
    tl.debug_barrier()
    if (top == 0) | (left == 0) | (top + TILE_Y >= height) | (left + TILE_X >= width):
        grad_prob = _adjoint_at_border(
            grad_edge_x_ptr, grad_edge_y_ptr, top + lane // TILE_X, left + lane % TILE_X, height, width,
            border_weights_ptr, RADIUS,
        )  # fmt: skip
    else:
        grad_prob = _adjoint(grad_edge_x_ptr, grad_edge_y_ptr, RADIUS, DENOMINATOR)
    return grad_prob


@triton.jit
def _softmax_dot(
    logits_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_weight_ptr, grad_error_ptr, border_weights_ptr,
    patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr, grad_cache_ptr,
    length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, FIRST: tl.constexpr, HAS_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """First pass over the classes of a tile: s = sum(P a) at its pixels.

    Args: Those of ``_grad_probability``, and
        grad_cache_ptr: Out, (CACHED_CLASSES, BLOCK) float32, a of the first classes.
    """
    lane = tl.arange(0, BLOCK)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel_ptr = logits_ptr + y.to(tl.int64) * logits_y + x.to(tl.int64) * logits_x
    softmax_dot = tl.zeros([BLOCK], tl.float32)
    class_rank = 0
    class_index = _next_class(ids_ptr, FIRST - 1, top, left, height, width, 2 * RADIUS)
    while class_index != NO_CLASS:
        grad_prob = _grad_probability(
            class_index, logits_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_weight_ptr, grad_error_ptr,
            border_weights_ptr, patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr,
            length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
            RADIUS, DENOMINATOR, False, FIRST, HAS_CLASS_WEIGHT,
        )  # fmt: skip
        if class_rank < CACHED_CLASSES:
            tl.store(grad_cache_ptr + class_rank * BLOCK + lane, grad_prob)
        # Skip the load where P does not matter.
        needs_logit = inside & (grad_prob != 0)
        z = tl.load(pixel_ptr + (class_index - FIRST).to(tl.int64) * logits_c, mask=needs_logit, other=0)
        probability = _probability(z.to(tl.float32), max_logit_ptr, inverse_sum_ptr, y * width + x, needs_logit, False)
        softmax_dot += tl.where(needs_logit, probability * grad_prob, 0)
        class_rank += 1
        class_index = _next_class(ids_ptr, class_index, top, left, height, width, 2 * RADIUS)
    return softmax_dot


@triton.jit
def _main_factor(
    grad_main_error_ptr, ids_ptr, main_class_weight_ptr, y, x, inside, width, grad_main_error_y, grad_main_error_x,
    FIRST: tl.constexpr, MAIN_LOSS: tl.constexpr, HAS_MAIN_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """Class of pixels, factor of their main gradient (f v_y, or f for binary cross-entropy; 0 at void), and v_y.

    ``grad_main_error_ptr`` and ``ids_ptr``: those of the image.
    """
    own_id = tl.load(ids_ptr + y * width + x, mask=inside, other=-1).to(tl.int32)
    offset = y.to(tl.int64) * grad_main_error_y + x.to(tl.int64) * grad_main_error_x
    factor = tl.load(grad_main_error_ptr + offset, mask=own_id >= 0, other=0)
    weight = tl.full([BLOCK], 1.0, tl.float32)
    if HAS_MAIN_CLASS_WEIGHT:
        weight = _own_weight(main_class_weight_ptr, own_id, FIRST)
        if MAIN_LOSS == CROSS_ENTROPY:
            factor *= weight
    return own_id, factor, weight


@triton.jit
def _main_gradient(z, probability, is_own, factor, weight, MAIN_LOSS: tl.constexpr):
    """dL/dz of the main loss; arguments after ``z`` and P: c = y, and what ``_main_factor`` returns."""
    if MAIN_LOSS == CROSS_ENTROPY:
        gradient = tl.where(is_own, probability - 1, probability)
    else:
        sigmoid = _sigmoid(tl.where(is_own, -z, z))
        gradient = tl.where(is_own, -weight * sigmoid, sigmoid)
    return factor * gradient


@triton.jit
def _write_class_gradients(
    softmax_dot, logits_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_weight_ptr, main_class_weight_ptr,
    grad_error_ptr, grad_main_error_ptr, border_weights_ptr, grad_logits_ptr, class_done_ptr,
    patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr, grad_cache_ptr,
    length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
    grad_main_error_y, grad_main_error_x, grad_logits_c, grad_logits_y, grad_logits_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr, MAIN_LOSS: tl.constexpr, HAS_MAIN_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """Second pass over the classes of a tile: dL/dz at its pixels. For the sigmoid it is the only one.

    Args: Those of ``_grad_probability``, and
        softmax_dot: s; 0 for the sigmoid.
        main_class_weight_ptr: In, as in ``class_gradient_kernel``.
        grad_main_error_ptr: In, that of the tile's image.
        grad_logits_ptr: Out, those of the tile's image.
        class_done_ptr: Out, (C,) int8, that of the tile.
        grad_cache_ptr: In, from ``_softmax_dot``; not read for the sigmoid.
    """
    lane = tl.arange(0, BLOCK)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel_ptr = logits_ptr + y.to(tl.int64) * logits_y + x.to(tl.int64) * logits_x
    out_ptr = grad_logits_ptr + y.to(tl.int64) * grad_logits_y + x.to(tl.int64) * grad_logits_x
    if MAIN_LOSS != NO_MAIN_LOSS:
        own_id, main_factor, own_weight = _main_factor(
            grad_main_error_ptr, ids_ptr, main_class_weight_ptr, y, x, inside, width,
            grad_main_error_y, grad_main_error_x, FIRST, MAIN_LOSS, HAS_MAIN_CLASS_WEIGHT,
        )  # fmt: skip
    class_rank = 0
    class_index = _next_class(ids_ptr, FIRST - 1, top, left, height, width, 2 * RADIUS)
    while class_index != NO_CLASS:
        channel = (class_index - FIRST).to(tl.int64)
        if SIGMOID or class_rank >= CACHED_CLASSES:
            grad_prob = _grad_probability(
                class_index, logits_ptr, ids_ptr, max_logit_ptr, inverse_sum_ptr, class_weight_ptr, grad_error_ptr,
                border_weights_ptr, patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr,
                length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
                RADIUS, DENOMINATOR, SIGMOID, FIRST, HAS_CLASS_WEIGHT,
            )  # fmt: skip
        else:
            grad_prob = tl.load(grad_cache_ptr + class_rank * BLOCK + lane)
        # Skip the load where the gradient is 0 regardless of P.
        has_cpg_gradient = inside & ((grad_prob != 0) | (softmax_dot != 0))
        needs_logit = has_cpg_gradient
        if MAIN_LOSS != NO_MAIN_LOSS:
            needs_logit = has_cpg_gradient | (main_factor != 0)
        needs_softmax = needs_logit if MAIN_LOSS == CROSS_ENTROPY else has_cpg_gradient
        z = tl.load(pixel_ptr + channel * logits_c, mask=needs_logit, other=0).to(tl.float32)
        probability = _probability(z, max_logit_ptr, inverse_sum_ptr, y * width + x, needs_softmax, SIGMOID)
        factor = 1 - probability if SIGMOID else 1.0
        grad_logits = tl.where(has_cpg_gradient, probability * factor * (grad_prob - softmax_dot), 0)
        if MAIN_LOSS != NO_MAIN_LOSS:
            is_own = own_id == class_index
            main_gradient = _main_gradient(z, probability, is_own, main_factor, own_weight, MAIN_LOSS)
            grad_logits += tl.where(main_factor != 0, main_gradient, 0)
        tl.store(out_ptr + channel * grad_logits_c, grad_logits.to(grad_logits_ptr.dtype.element_ty), mask=inside)
        tl.store(class_done_ptr + channel, 1)
        class_rank += 1
        class_index = _next_class(ids_ptr, class_index, top, left, height, width, 2 * RADIUS)


@triton.jit
def class_gradient_kernel(
    logits_ptr, ids_ptr, valid_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr,
    class_weight_ptr, main_class_weight_ptr, grad_error_ptr, grad_main_error_ptr, border_weights_ptr,
    grad_logits_ptr, softmax_dot_ptr, class_done_ptr, scratch_ptr, grad_scratch_ptr,
    num_tiles, num_classes, height, width, logits_b, logits_c, logits_y, logits_x,
    grad_error_b, grad_error_y, grad_error_x, grad_main_error_b, grad_main_error_y, grad_main_error_x,
    grad_logits_b, grad_logits_c, grad_logits_y, grad_logits_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr, MAIN_LOSS: tl.constexpr, HAS_MAIN_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """Gradient of the logits of each tile's own classes, and the term that the softmax passes on to all others.

    A fixed number of programs, each of which takes every n-th tile. With the softmax it goes through the tile's classes
    twice: s = sum(P a) first, then dL/dz = P (a - s), where a = dL/dP is cached for the first CACHED_CLASSES classes
    and recomputed for the others. With the sigmoid dL/dz = P (1 - P) a needs no sum. The gradient of the main loss is
    added.

    Args:
        logits_ptr: In, (B, C, H, W) with strides ``logits_*``.
        ids_ptr, valid_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr: In, from the kernels before.
        class_weight_ptr: In, (C,) float32; not read unless HAS_CLASS_WEIGHT.
        main_class_weight_ptr: In, (C,) float32; not read unless HAS_MAIN_CLASS_WEIGHT.
        grad_error_ptr: In, (B, H, W) float32 with strides ``grad_error_*``: dL/d(error of the pixel).
        grad_main_error_ptr: In, the same of the main error; not read with NO_MAIN_LOSS.
        border_weights_ptr: In, (4, 4, k, k) float32, see ``_border_weights``.
        grad_logits_ptr: Out, (B, C, H, W) with strides ``grad_logits_*``; only channels of the tile's classes.
        softmax_dot_ptr: Out, (B, H, W) float32, s in RECEPTIVE tiles; not written elsewhere, nor with SIGMOID.
        class_done_ptr: Out, (tiles, C) int8, 1 for the channels written; 0 before.
        scratch_ptr: Scratch, int32: of each program a patch (halo 2 r), then the positions of valid pixels (halo r).
        grad_scratch_ptr: Scratch, float32: of each program dL/dĜ in x and in y (halo r), then the cache of a.
        FIRST: Class of channel 0: 1 for a single channel, else 0.
    """
    PATCH: tl.constexpr = (TILE_Y + 4 * RADIUS) * (TILE_X + 4 * RADIUS)
    LISTED: tl.constexpr = (TILE_Y + 2 * RADIUS) * (TILE_X + 2 * RADIUS)
    program = tl.program_id(0).to(tl.int64)
    patch_ptr = scratch_ptr + program * (PATCH + LISTED)
    positions_ptr = patch_ptr + PATCH
    grad_edge_x_ptr = grad_scratch_ptr + program * (2 * LISTED + CACHED_CLASSES * BLOCK)
    grad_edge_y_ptr = grad_edge_x_ptr + LISTED
    grad_cache_ptr = grad_edge_y_ptr + LISTED
    lane = tl.arange(0, BLOCK)
    tile = tl.program_id(0)
    while tile < num_tiles:
        if (tl.load(tile_flags_ptr + tile) & RECEPTIVE) != 0:
            image, top, left = _tile_origin(tile, height, width)
            first = image * height * width
            length = _list_valid(positions_ptr, valid_ptr + first, top, left, height, width, RADIUS)
            start = 0
            while start < 2 * LISTED:
                tl.store(grad_edge_x_ptr + start + lane, 0.0, mask=start + lane < 2 * LISTED)
                start += BLOCK
            tl.debug_barrier()
            softmax_dot = tl.zeros([BLOCK], tl.float32)
            if length != 0:
                if not SIGMOID:
                    softmax_dot = _softmax_dot(
                        logits_ptr + image * logits_b, ids_ptr + first, max_logit_ptr + first, inverse_sum_ptr + first,
                        class_weight_ptr, grad_error_ptr + image * grad_error_b, border_weights_ptr,
                        patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr, grad_cache_ptr,
                        length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
                        RADIUS, DENOMINATOR, FIRST, HAS_CLASS_WEIGHT,
                    )  # fmt: skip
                    tl.debug_barrier()
                _write_class_gradients(
                    softmax_dot, logits_ptr + image * logits_b, ids_ptr + first, max_logit_ptr + first,
                    inverse_sum_ptr + first, class_weight_ptr, main_class_weight_ptr,
                    grad_error_ptr + image * grad_error_b, grad_main_error_ptr + image * grad_main_error_b,
                    border_weights_ptr, grad_logits_ptr + image * grad_logits_b,
                    class_done_ptr + tile.to(tl.int64) * num_classes,
                    patch_ptr, positions_ptr, grad_edge_x_ptr, grad_edge_y_ptr, grad_cache_ptr,
                    length, top, left, height, width, logits_c, logits_y, logits_x, grad_error_y, grad_error_x,
                    grad_main_error_y, grad_main_error_x, grad_logits_c, grad_logits_y, grad_logits_x,
                    RADIUS, DENOMINATOR, SIGMOID, FIRST, HAS_CLASS_WEIGHT, MAIN_LOSS, HAS_MAIN_CLASS_WEIGHT,
                )  # fmt: skip
            if not SIGMOID:
                y, x, inside = _tile_pixels(top, left, height, width)
                tl.store(softmax_dot_ptr + first + y * width + x, softmax_dot, mask=inside)
            tl.debug_barrier()
        tile += tl.num_programs(0)


@triton.jit
def gradient_kernel(
    logits_ptr, ids_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr, main_class_weight_ptr, grad_main_error_ptr,
    softmax_dot_ptr, class_done_ptr, grad_logits_ptr,
    num_classes, height, width, logits_b, logits_c, logits_y, logits_x,
    grad_main_error_b, grad_main_error_y, grad_main_error_x, grad_logits_b, grad_logits_c, grad_logits_y, grad_logits_x,
    SIGMOID: tl.constexpr, FIRST: tl.constexpr, MAIN_LOSS: tl.constexpr, HAS_MAIN_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    """Gradient of all channels that ``class_gradient_kernel`` has not written: -P s and that of the main loss.

    One program per tile.

    Args:
        logits_ptr: In, (B, C, H, W) with strides ``logits_*``.
        ids_ptr, tile_flags_ptr, max_logit_ptr, inverse_sum_ptr, softmax_dot_ptr, class_done_ptr: In, from the kernels
            before.
        main_class_weight_ptr: In, (C,) float32; not read unless HAS_MAIN_CLASS_WEIGHT.
        grad_main_error_ptr: In, (B, H, W) float32 with strides ``grad_main_error_*``: dL/d(main error of the pixel);
            not read with NO_MAIN_LOSS.
        grad_logits_ptr: Out, (B, C, H, W) with strides ``grad_logits_*``.
        FIRST: Class of channel 0: 1 for a single channel, else 0.
    """
    tile = tl.program_id(0).to(tl.int64)
    image, top, left = _tile_origin(tl.program_id(0), height, width)
    y, x, inside = _tile_pixels(top, left, height, width)
    first = image * height * width
    pixel = first + y * width + x
    softmax_dot = tl.zeros([BLOCK], tl.float32)
    if not SIGMOID:
        if (tl.load(tile_flags_ptr + tile) & RECEPTIVE) != 0:
            softmax_dot = tl.load(softmax_dot_ptr + pixel, mask=inside, other=0)
    has_cpg_gradient = softmax_dot != 0
    needs_logit = has_cpg_gradient
    if MAIN_LOSS != NO_MAIN_LOSS:
        own_id, main_factor, own_weight = _main_factor(
            grad_main_error_ptr + image * grad_main_error_b, ids_ptr + first, main_class_weight_ptr, y, x, inside,
            width, grad_main_error_y, grad_main_error_x, FIRST, MAIN_LOSS, HAS_MAIN_CLASS_WEIGHT,
        )  # fmt: skip
        needs_logit = has_cpg_gradient | (main_factor != 0)
    needs_softmax = needs_logit if MAIN_LOSS == CROSS_ENTROPY else has_cpg_gradient
    some_need_logit = tl.max(needs_logit.to(tl.int32), 0)
    own_ptr = logits_ptr + image * logits_b + y.to(tl.int64) * logits_y + x.to(tl.int64) * logits_x
    out_ptr = grad_logits_ptr + image * grad_logits_b + y.to(tl.int64) * grad_logits_y + x.to(tl.int64) * grad_logits_x
    start = 0
    while start < num_classes:
        channel = (start + tl.arange(0, CHANNELS)).to(tl.int64)
        grad_logits = tl.zeros([CHANNELS, BLOCK], tl.float32)
        is_left = tl.load(class_done_ptr + tile * num_classes + channel, mask=channel < num_classes, other=1) == 0
        if not SIGMOID or MAIN_LOSS != NO_MAIN_LOSS:
            if some_need_logit != 0:
                mask = is_left[:, None] & needs_logit[None, :]
                z = tl.load(own_ptr[None, :] + channel[:, None] * logits_c, mask=mask, other=0).to(tl.float32)
                probability = _probability(
                    z, max_logit_ptr, inverse_sum_ptr, pixel[None, :], needs_softmax[None, :], SIGMOID
                )
                grad_logits = tl.where(has_cpg_gradient[None, :], -probability * softmax_dot[None, :], 0)
                if MAIN_LOSS != NO_MAIN_LOSS:
                    is_own = (channel + FIRST)[:, None] == own_id[None, :]
                    main_gradient = _main_gradient(
                        z, probability, is_own, main_factor[None, :], own_weight[None, :], MAIN_LOSS
                    )
                    grad_logits += tl.where(main_factor[None, :] != 0, main_gradient, 0)
        grad_logits = grad_logits.to(grad_logits_ptr.dtype.element_ty)
        mask = is_left[:, None] & inside[None, :]
        tl.store(out_ptr[None, :] + channel[:, None] * grad_logits_c, grad_logits, mask=mask)
        start += CHANNELS
