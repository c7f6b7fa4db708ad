"""Triton kernels of the CPG loss: from label and logits straight to the error of each pixel and the logits' gradient.

z: logits; P: their probabilities (Eq. 12); T: one-hot label; G, Ĝ: gradients of T and P times the kernels' denominator;
M: boundary entries, where G is not 0 (Eq. 13). Five kernels, each of which reads what it needs once:

1. ``scan_label_kernel``: label -> class ids (-1: void) and, of each pixel, what lies near it in its row.
2. ``softmax_kernel``: what lies near it in its columns -> counted pixels, whose window holds an edge that the void
   policy counts; the softmax's maximum and sum at every pixel that a window of theirs may read.
3. ``error_kernel``: the error of each pixel and the number of its boundary entries (Eq. 14, 15).
4. ``class_gradient_kernel``: the gradient of the logits of a tile's own classes, and what the softmax passes on to
   the logits of all others.
5. ``gradient_kernel``: the gradient of these others, zeros included.

Images are cut into tiles. Kernels 3 and 4 go through the classes of a tile one by one and pass P, and what the error's
gradient is at its boundary entries, from thread to thread through a scratch memory of their own, which stays in the
caches. Sums have a fixed order: results are the same in every run.
"""

from __future__ import annotations

import triton
import triton.language as tl

TILE_Y, TILE_X = tl.constexpr(8), tl.constexpr(32)
BLOCK = tl.constexpr(TILE_Y.value * TILE_X.value)
# Channels that are read at a time where all are.
CHANNELS = tl.constexpr(8)
# Classes of a tile whose dL/dP is kept; that of further ones, in hardly any tile, is computed twice.
SLOTS = tl.constexpr(8)
NO_CATEGORY = tl.constexpr(2**31 - 1)
# Bits of a pixel in scan_label_kernel, and of a tile in softmax_kernel.
NEAR_EDGE, READ_EDGE, NEAR_VOID = tl.constexpr(1), tl.constexpr(2), tl.constexpr(4)
IS_READ, IS_COUNTED = tl.constexpr(1), tl.constexpr(2)


@triton.jit
def _class_id(value, ignore_index, num_classes):
    value = value.to(tl.int64)  # unsigned dtypes have no -1
    is_class = (value >= 0) & (value < num_classes) & (value != ignore_index)
    return tl.where(is_class, value, -1).to(tl.int32)


@triton.jit
def _is_edge(one, other, EXCLUDE: tl.constexpr):
    # With 'exclude' a window with a void pixel counts for nothing, so neither do edges of void.
    return (one != other) & (one >= 0) & (other >= 0) if EXCLUDE else one != other


@triton.jit
def _tile_origin(tile, height, width):
    """Image, and row and column of the first pixel."""
    columns = tl.cdiv(width, TILE_X)
    rows = tl.cdiv(height, TILE_Y)
    line = tile // columns
    return (line // rows).to(tl.int64), line % rows * TILE_Y, tile % columns * TILE_X


@triton.jit
def _tile_pixels(top, left, height, width):
    """Row and column of each pixel of a tile, and whether the image has it."""
    lane = tl.arange(0, BLOCK)
    y = top + lane // TILE_X
    x = left + lane % TILE_X
    return y, x, (y < height) & (x < width)


@triton.jit
def scan_label_kernel(
    label, ids, near, invalid,
    ignore_index, num_classes, height, width, label_b, label_y, label_x,
    RADIUS: tl.constexpr, EXCLUDE: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    image, top, left = _tile_origin(tile, height, width)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel = image * height * width + y * width + x
    row = label + image * label_b + y.to(tl.int64) * label_y
    below = label + image * label_b + tl.minimum(y + 1, height - 1).to(tl.int64) * label_y
    bits = tl.zeros([BLOCK], tl.int32)
    first = tl.maximum(x - 2 * RADIUS, 0).to(tl.int64) * label_x
    right = _class_id(tl.load(row + first, mask=inside, other=0), ignore_index, num_classes)
    for offset in tl.static_range(-2 * RADIUS, 2 * RADIUS + 1):
        column = tl.minimum(tl.maximum(x + offset, 0), width - 1).to(tl.int64) * label_x
        after = tl.minimum(tl.maximum(x + offset + 1, 0), width - 1).to(tl.int64) * label_x
        here = right
        right = _class_id(tl.load(row + after, mask=inside, other=0), ignore_index, num_classes)
        under = _class_id(tl.load(below + column, mask=inside, other=0), ignore_index, num_classes)
        is_edge = _is_edge(here, right, EXCLUDE) | _is_edge(here, under, EXCLUDE)
        bits |= tl.where(is_edge, READ_EDGE, 0)
        if offset >= -RADIUS and offset <= RADIUS:
            bits |= tl.where(is_edge, NEAR_EDGE, 0) | tl.where(here < 0, NEAR_VOID, 0)
    own = tl.load(row + x.to(tl.int64) * label_x, mask=inside, other=0).to(tl.int64)
    own_id = _class_id(own, ignore_index, num_classes)
    tl.store(ids + pixel, own_id.to(ids.dtype.element_ty), mask=inside)
    tl.store(near + pixel, bits.to(tl.int8), mask=inside)
    is_invalid = inside & (own_id < 0) & (own != ignore_index)
    tl.store(invalid + tile, tl.max(is_invalid.to(tl.int8), 0))


@triton.jit
def softmax_kernel(
    logits, ids, near, counted, tiles, highest, inverse_sum,
    num_classes, height, width, stride_b, stride_c, stride_y, stride_x,
    RADIUS: tl.constexpr, EXCLUDE: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    image, top, left = _tile_origin(tile, height, width)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel = image * height * width + y * width + x
    bits = tl.zeros([BLOCK], tl.int32)
    for offset in tl.static_range(-2 * RADIUS, 2 * RADIUS + 1):
        row = tl.minimum(tl.maximum(y + offset, 0), height - 1)
        found = tl.load(near + image * height * width + row * width + x, mask=inside, other=0).to(tl.int32)
        bits |= found if offset >= -RADIUS and offset <= RADIUS else found & READ_EDGE
    if EXCLUDE:
        is_counted = (bits & (NEAR_EDGE | NEAR_VOID)) == NEAR_EDGE
    else:
        is_counted = ((bits & NEAR_EDGE) != 0) & (tl.load(ids + pixel, mask=inside, other=-1) >= 0)
    is_read = (bits & READ_EDGE) != 0
    tl.store(counted + pixel, is_counted.to(tl.int8), mask=inside)
    flags = tl.where(is_read, IS_READ, 0) | tl.where(is_counted, IS_COUNTED, 0)
    tile_is_read = tl.max(flags & IS_READ, 0)
    tl.store(tiles + tile, (tile_is_read | tl.max(flags & IS_COUNTED, 0)).to(tl.int8))
    if not SIGMOID:
        if tile_is_read != 0:
            own = image * stride_b + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
            top_logit = tl.full([BLOCK], float('-inf'), tl.float32)
            total = tl.zeros([BLOCK], tl.float32)
            start = 0
            while start < num_classes:
                channel = start + tl.arange(0, CHANNELS)
                z = tl.load(
                    logits + channel.to(tl.int64)[:, None] * stride_c + own[None, :],
                    mask=(channel < num_classes)[:, None] & is_read[None, :],
                    other=float('-inf'),
                ).to(tl.float32)
                higher = tl.maximum(top_logit, tl.max(z, 0))
                base = tl.where(higher == float('-inf'), 0.0, higher)
                total = total * tl.exp(top_logit - base) + tl.sum(tl.exp(z - base[None, :]), 0)
                # NaN is not passed on by max, but by total.
                top_logit = higher
                start += CHANNELS
            tl.store(highest + pixel, tl.where(top_logit == float('-inf'), 0.0, top_logit), mask=is_read)
            tl.store(inverse_sum + pixel, 1 / total, mask=is_read)


@triton.jit
def _next_category(ids, category, top, left, height, width, HALO: tl.constexpr):
    """The lowest class above ``category`` in a tile and its halo, or NO_CATEGORY. ``ids``: of the tile's image."""
    WIDTH: tl.constexpr = TILE_X + 2 * HALO
    SIZE: tl.constexpr = (TILE_Y + 2 * HALO) * WIDTH
    lowest = tl.full([BLOCK], NO_CATEGORY, tl.int32)
    start = 0
    while start < SIZE:
        place = tl.minimum(start + tl.arange(0, BLOCK), SIZE - 1)
        y = tl.minimum(tl.maximum(top - HALO + place // WIDTH, 0), height - 1)
        x = tl.minimum(tl.maximum(left - HALO + place % WIDTH, 0), width - 1)
        found = tl.load(ids + y * width + x).to(tl.int32)
        lowest = tl.minimum(lowest, tl.where(found > category, found, NO_CATEGORY))
        start += BLOCK
    return tl.min(lowest, 0)


@triton.jit
def _probability(z, highest, inverse_sum, pixel, mask, SIGMOID: tl.constexpr):
    if SIGMOID:
        probability = 1 / (1 + tl.exp(-z))
    else:
        top_logit = tl.load(highest + pixel, mask=mask, other=0)
        probability = tl.exp(z - top_logit) * tl.load(inverse_sum + pixel, mask=mask, other=0)
    return probability


@triton.jit
def _store_probability(
    patch, plane, ids, highest, inverse_sum, category,
    top, left, height, width, stride_y, stride_x, HALO: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """Write P and T of a class in a tile and its halo, with replicate padding (Eq. 5), to the scratch memory.

    The sign bit, which a probability does not need, holds T. ``plane``: logits of the tile's image and class; ``ids``,
    ``highest``, ``inverse_sum``: of the tile's image.
    """
    WIDTH: tl.constexpr = TILE_X + 2 * HALO
    SIZE: tl.constexpr = (TILE_Y + 2 * HALO) * WIDTH
    start = 0
    while start < SIZE:
        place = start + tl.arange(0, BLOCK)
        inside = place < SIZE
        y = tl.minimum(tl.maximum(top - HALO + place // WIDTH, 0), height - 1)
        x = tl.minimum(tl.maximum(left - HALO + place % WIDTH, 0), width - 1)
        pixel = y * width + x
        z = tl.load(plane + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x, mask=inside, other=0)
        probability = _probability(z.to(tl.float32), highest, inverse_sum, pixel, inside, SIGMOID)
        bits = probability.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        is_class = tl.load(ids + pixel, mask=inside, other=-1) == category
        tl.store(patch + place, tl.where(is_class, bits | -0x80000000, bits), mask=inside)
        start += BLOCK


@triton.jit
def _list_counted(places, counted, top, left, height, width, HALO: tl.constexpr):
    """Write the places of counted pixels in a tile and its halo to the scratch memory; return how many there are."""
    WIDTH: tl.constexpr = TILE_X + 2 * HALO
    SIZE: tl.constexpr = (TILE_Y + 2 * HALO) * WIDTH
    length = 0
    start = 0
    while start < SIZE:
        place = start + tl.arange(0, BLOCK)
        y = top - HALO + place // WIDTH
        x = left - HALO + place % WIDTH
        inside = (place < SIZE) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        is_counted = tl.load(counted + y * width + x, mask=inside, other=0).to(tl.int32)
        tl.store(places + length + tl.cumsum(is_counted, 0) - 1, place, mask=is_counted != 0)
        length += tl.sum(is_counted, 0)
        start += BLOCK
    return length


@triton.jit
def _differences(patch, y, x, WIDTH: tl.constexpr, RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr):
    """G and Ĝ - G of x and y where the k x k window of ``patch`` begins at rows ``y`` and columns ``x``."""
    true_x = tl.zeros([BLOCK], tl.int32)
    true_y = tl.zeros([BLOCK], tl.int32)
    error_x = tl.zeros([BLOCK], tl.float32)
    error_y = tl.zeros([BLOCK], tl.float32)
    # Pointers that differ by constants share one address register.
    centre = patch + (y + RADIUS) * WIDTH + x + RADIUS
    for v in tl.static_range(-RADIUS, RADIUS + 1):
        for u in tl.static_range(-RADIUS, RADIUS + 1):
            # Weights of 0 stay in: a NaN anywhere in the window reaches the error, as it does in a convolution.
            weight_x = DENOMINATOR * u // max(u * u + v * v, 1)
            weight_y = DENOMINATOR * v // max(u * u + v * v, 1)
            bits = tl.load(centre + (v * WIDTH + u))
            true = (bits < 0).to(tl.int32)
            error = (bits & 0x7FFFFFFF).to(tl.float32, bitcast=True) - true.to(tl.float32)
            true_x += weight_x * true
            true_y += weight_y * true
            error_x += weight_x * error
            error_y += weight_y * error
    return true_x, true_y, error_x, error_y


@triton.jit
def error_kernel(
    logits, ids, counted, tiles, highest, inverse_sum, class_weight, error, entries, scratch,
    num_tiles, height, width, stride_b, stride_c, stride_y, stride_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    PATCH: tl.constexpr = (TILE_Y + 2 * RADIUS) * WIDTH
    patch = scratch + tl.program_id(0).to(tl.int64) * (PATCH + BLOCK)
    places = patch + PATCH
    lane = tl.arange(0, BLOCK)
    tile = tl.program_id(0)
    while tile < num_tiles:
        image, top, left = _tile_origin(tile, height, width)
        first = image * height * width
        y, x, inside = _tile_pixels(top, left, height, width)
        tl.store(error + first + y * width + x, 0.0, mask=inside)
        number = tl.zeros([BLOCK], tl.int32)
        if (tl.load(tiles + tile) & IS_COUNTED) != 0:
            length = _list_counted(places, counted + first, top, left, height, width, 0)
            category = _next_category(ids + first, FIRST - 1, top, left, height, width, RADIUS)
            while category != NO_CATEGORY:
                channel = (category - FIRST).to(tl.int64)
                _store_probability(
                    patch, logits + image * stride_b + channel * stride_c, ids + first, highest + first,
                    inverse_sum + first, category, top, left, height, width, stride_y, stride_x, RADIUS, SIGMOID,
                )  # fmt: skip
                weight = 1.0
                if HAS_CLASS_WEIGHT:
                    weight = tl.load(class_weight + channel)
                tl.debug_barrier()
                start = 0
                while start < length:
                    listed = start + lane < length
                    place = tl.load(places + start + lane, mask=listed, other=0)
                    y = place // TILE_X
                    x = place % TILE_X
                    true_x, true_y, error_x, error_y = _differences(patch, y, x, WIDTH, RADIUS, DENOMINATOR)
                    is_x = listed & (true_x != 0)
                    is_y = listed & (true_y != 0)
                    error_x = tl.where(is_x, error_x / DENOMINATOR, 0)
                    error_y = tl.where(is_y, error_y / DENOMINATOR, 0)
                    # The same thread has the same place for every class.
                    pixel = error + first + (top + y) * width + left + x
                    before = tl.load(pixel, mask=listed, other=0)
                    tl.store(pixel, before + weight * (error_x * error_x + error_y * error_y), mask=listed)
                    number += is_x.to(tl.int32) + is_y.to(tl.int32)
                    start += BLOCK
                tl.debug_barrier()
                category = _next_category(ids + first, category, top, left, height, width, RADIUS)
        tl.store(entries + tile, tl.sum(number, 0))
        tile += tl.num_programs(0)


@triton.jit
def _adjoint(at_x, at_y, RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr):
    """Transpose of the correlation at the pixels of a tile: dL/dP from the gradients dL/dĜ around them."""
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    lane = tl.arange(0, BLOCK)
    place = (lane // TILE_X + RADIUS) * WIDTH + lane % TILE_X + RADIUS
    total = tl.zeros([BLOCK], tl.float32)
    from_x = at_x + place
    from_y = at_y + place
    for v in tl.static_range(-RADIUS, RADIUS + 1):
        for u in tl.static_range(-RADIUS, RADIUS + 1):
            total += DENOMINATOR * u // max(u * u + v * v, 1) * tl.load(from_x + (-v * WIDTH - u))
            total += DENOMINATOR * v // max(u * u + v * v, 1) * tl.load(from_y + (-v * WIDTH - u))
    return total


@triton.jit
def _folded_adjoint(at_x, at_y, y, x, height, width, folded, RADIUS: tl.constexpr):
    """The same where pixels may lie on the image's border, which replicate padding reads several times.

    ``folded`` holds what the weights of these times add up to.
    """
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    KSIZE: tl.constexpr = 2 * RADIUS + 1
    lane = tl.arange(0, BLOCK)
    place = (lane // TILE_X + RADIUS) * WIDTH + lane % TILE_X + RADIUS
    mode_y = (y == 0).to(tl.int32) + 2 * (y == height - 1).to(tl.int32)
    mode_x = (x == 0).to(tl.int32) + 2 * (x == width - 1).to(tl.int32)
    folded_x = folded + (mode_y * 4 + mode_x) * KSIZE * KSIZE
    folded_y = folded + (mode_x * 4 + mode_y) * KSIZE * KSIZE
    total = tl.zeros([BLOCK], tl.float32)
    tap = 0
    while tap < KSIZE * KSIZE:
        v = tap // KSIZE
        u = tap % KSIZE
        source = place - (v - RADIUS) * WIDTH - (u - RADIUS)
        total += tl.load(folded_x + v * KSIZE + u) * tl.load(at_x + source)
        total += tl.load(folded_y + u * KSIZE + v) * tl.load(at_y + source)
        tap += 1
    return total


@triton.jit
def _probability_gradient(
    patch, places, length, at_x, at_y, plane, ids, highest, inverse_sum, weight, grad_output, folded,
    category, top, left, height, width, stride_y, stride_x, output_y, output_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """dL/dP of a class at the pixels of a tile."""
    WIDTH: tl.constexpr = TILE_X + 2 * RADIUS
    _store_probability(
        patch, plane, ids, highest, inverse_sum, category,
        top, left, height, width, stride_y, stride_x, 2 * RADIUS, SIGMOID,
    )  # fmt: skip
    tl.debug_barrier()
    lane = tl.arange(0, BLOCK)
    start = 0
    while start < length:
        listed = start + lane < length
        place = tl.load(places + start + lane, mask=listed, other=0)
        y = place // WIDTH
        x = place % WIDTH
        true_x, true_y, error_x, error_y = _differences(patch, y, x, WIDTH + 2 * RADIUS, RADIUS, DENOMINATOR)
        row = (top - RADIUS + y).to(tl.int64) * output_y
        column = (left - RADIUS + x).to(tl.int64) * output_x
        upstream = tl.load(grad_output + row + column, mask=listed, other=0)
        upstream *= weight * (2.0 / (DENOMINATOR * DENOMINATOR))
        tl.store(at_x + place, tl.where(true_x != 0, upstream * error_x, 0), mask=listed)
        tl.store(at_y + place, tl.where(true_y != 0, upstream * error_y, 0), mask=listed)
        start += BLOCK
    tl.debug_barrier()
    if (top == 0) | (left == 0) | (top + TILE_Y >= height) | (left + TILE_X >= width):
        total = _folded_adjoint(
            at_x, at_y, top + lane // TILE_X, left + lane % TILE_X, height, width, folded, RADIUS
        )  # fmt: skip
    else:
        total = _adjoint(at_x, at_y, RADIUS, DENOMINATOR)
    return total


@triton.jit
def class_gradient_kernel(
    logits, ids, counted, tiles, highest, inverse_sum, class_weight, grad_output, folded,
    gradient, shared, written, scratch, slots,
    num_tiles, num_classes, height, width, stride_b, stride_c, stride_y, stride_x,
    output_b, output_y, output_x, gradient_b, gradient_c, gradient_y, gradient_x,
    RADIUS: tl.constexpr, DENOMINATOR: tl.constexpr, SIGMOID: tl.constexpr, FIRST: tl.constexpr,
    HAS_CLASS_WEIGHT: tl.constexpr,
):  # fmt: skip
    PATCH: tl.constexpr = (TILE_Y + 4 * RADIUS) * (TILE_X + 4 * RADIUS)
    LISTED: tl.constexpr = (TILE_Y + 2 * RADIUS) * (TILE_X + 2 * RADIUS)
    program = tl.program_id(0).to(tl.int64)
    patch = scratch + program * (PATCH + LISTED)
    places = patch + PATCH
    at_x = slots + program * (2 * LISTED + SLOTS * BLOCK)
    at_y = at_x + LISTED
    kept = at_y + LISTED
    lane = tl.arange(0, BLOCK)
    tile = tl.program_id(0)
    while tile < num_tiles:
        image, top, left = _tile_origin(tile, height, width)
        first = image * height * width
        y, x, inside = _tile_pixels(top, left, height, width)
        pixel = y * width + x
        total = tl.zeros([BLOCK], tl.float32)
        length = 0
        if (tl.load(tiles + tile) & IS_READ) != 0:
            length = _list_counted(places, counted + first, top, left, height, width, RADIUS)
            start = 0
            while start < 2 * LISTED:
                tl.store(at_x + start + lane, 0.0, mask=start + lane < 2 * LISTED)
                start += BLOCK
            tl.debug_barrier()
        # First dL/dP of each class and their sum, then the gradient.
        step = 0
        while (step < 2) & (length != 0):
            slot = 0
            category = _next_category(ids + first, FIRST - 1, top, left, height, width, 2 * RADIUS)
            while category != NO_CATEGORY:
                channel = (category - FIRST).to(tl.int64)
                plane = logits + image * stride_b + channel * stride_c
                if (step == 0) | (slot >= SLOTS):
                    weight = 1.0
                    if HAS_CLASS_WEIGHT:
                        weight = tl.load(class_weight + channel)
                    along = _probability_gradient(
                        patch, places, length, at_x, at_y, plane, ids + first, highest + first, inverse_sum + first,
                        weight, grad_output + image * output_b, folded, category,
                        top, left, height, width, stride_y, stride_x, output_y, output_x,
                        RADIUS, DENOMINATOR, SIGMOID,
                    )  # fmt: skip
                else:
                    along = tl.load(kept + slot * BLOCK + lane)
                # P is not read, and may be anything, where the gradient is 0 whatever it is.
                reads = inside & ((along != 0) | (total != 0))
                z = tl.load(plane + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x, mask=reads, other=0)
                z = z.to(tl.float32)
                probability = _probability(z, highest + first, inverse_sum + first, pixel, reads, SIGMOID)
                if step == 0:
                    if slot < SLOTS:
                        tl.store(kept + slot * BLOCK + lane, along)
                    if not SIGMOID:
                        total += tl.where(inside & (along != 0), probability * along, 0)
                else:
                    factor = 1 - probability if SIGMOID else 1.0
                    value = tl.where(reads, probability * factor * (along - total), 0)
                    tl.store(
                        gradient + image * gradient_b + channel * gradient_c
                        + y.to(tl.int64) * gradient_y + x.to(tl.int64) * gradient_x,
                        value.to(gradient.dtype.element_ty), mask=inside,
                    )  # fmt: skip
                    tl.store(written + tile.to(tl.int64) * num_classes + channel, 1)
                slot += 1
                category = _next_category(ids + first, category, top, left, height, width, 2 * RADIUS)
            step += 1
        if not SIGMOID:
            tl.store(shared + first + pixel, total, mask=inside)
        tl.debug_barrier()
        tile += tl.num_programs(0)


@triton.jit
def gradient_kernel(
    logits, tiles, highest, inverse_sum, shared, written, gradient,
    num_classes, height, width, stride_b, stride_c, stride_y, stride_x,
    gradient_b, gradient_c, gradient_y, gradient_x, SIGMOID: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64)
    image, top, left = _tile_origin(tl.program_id(0), height, width)
    y, x, inside = _tile_pixels(top, left, height, width)
    pixel = image * height * width + y * width + x
    total = tl.zeros([BLOCK], tl.float32)
    if not SIGMOID:
        if (tl.load(tiles + tile) & IS_READ) != 0:
            total = tl.load(shared + pixel, mask=inside, other=0)
    own = logits + image * stride_b + y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x
    out = gradient + image * gradient_b + y.to(tl.int64) * gradient_y + x.to(tl.int64) * gradient_x
    reads = total != 0
    some_read = tl.max(reads.to(tl.int32), 0)
    start = 0
    while start < num_classes:
        channel = (start + tl.arange(0, CHANNELS)).to(tl.int64)
        value = tl.zeros([CHANNELS, BLOCK], tl.float32)
        left_out = tl.load(written + tile * num_classes + channel, mask=channel < num_classes, other=1) == 0
        if not SIGMOID:
            if some_read != 0:
                read = left_out[:, None] & reads[None, :]
                z = tl.load(own[None, :] + channel[:, None] * stride_c, mask=read, other=0).to(tl.float32)
                probability = _probability(z, highest, inverse_sum, pixel[None, :], reads[None, :], SIGMOID)
                value = tl.where(read, -probability * total[None, :], 0)
        value = value.to(gradient.dtype.element_ty)
        tl.store(out[None, :] + channel[:, None] * gradient_c, value, mask=left_out[:, None] & inside[None, :])
        start += CHANNELS
