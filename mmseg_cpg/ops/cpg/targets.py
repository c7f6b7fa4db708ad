"""The boundary of a label map, decided in integers (CPG paper, section 3.2.2, Eq. 13).

T: one-hot label; G = S * T: its gradient; M: boundary entries, where G is exactly non-zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .._autograd import is_readable
from .._chunks import chunk_slices
from .._validation import check_ids, check_ignore_index, check_label, void_mask
from .sobel import check_ksize
from .tiles import TILE_PX, correlate, mask_of_tiles, pad_to_tiles, tile_origin, tile_patches

MAX_CLASSES = torch.iinfo(torch.int32).max
IGNORE_POLICIES = ('exclude', 'as_background')
_TILE_BITS = (TILE_PX**2).bit_length() - 1


@dataclass(frozen=True, eq=False)
class BoundaryTargets:
    """Boundary entries of a label map, the sparse form of G and M.

    An entry is a pixel and a class for which at least one of the two gradients is non-zero. Entries are sorted by
    8 x 8 tile, then class, then position, so the targets of a batch are those of its images one after another.

    Attributes:
        pixel: (n,) int32, flat index into the label.
        category: (n,) class id, in the smallest of uint8, int16 and int32 that has room for the label's ids (on CUDA:
            for ``num_classes``) and for void.
        gradient: (2, n) int8, int16 or int32 (ksize up to 5, 7, 11), numerators of the x and y gradient G over the
            denominator of :func:`~mmseg_cpg.ops.sobel_numerators`.
        shape: Shape of the label, (H, W) or (B, H, W).
        ksize, ignore_index, ignore_policy: What the targets were made with.
    """

    pixel: Tensor
    category: Tensor
    gradient: Tensor
    shape: tuple[int, ...]
    ksize: int
    ignore_index: int
    ignore_policy: str

    def __len__(self) -> int:
        return len(self.pixel)

    @property
    def made_with(self) -> tuple[tuple[int, ...], int, int, str]:
        """(shape, ksize, ignore_index, ignore_policy): what must agree for targets to fit a loss."""
        return self.shape, self.ksize, self.ignore_index, self.ignore_policy

    def mask(self) -> Tensor:
        """The boundary pixels: bool, of the label's shape, True where a pixel has an entry of any class."""
        mask = torch.zeros(math.prod(self.shape), dtype=torch.bool, device=self.pixel.device)
        return mask.index_fill_(0, self.pixel.long(), True).view(self.shape)

    def foreground(self) -> BoundaryTargets:
        """The entries of class 1 as those of class 0, for logits with one channel."""
        keep = (self.category == 1).nonzero()[:, 0]
        return replace(self, pixel=self.pixel[keep], category=self.category[keep] - 1, gradient=self.gradient[:, keep])


def stack_targets(targets: Sequence[BoundaryTargets]) -> BoundaryTargets:
    """The targets of a batch from those of its images, equal to :func:`boundary_targets` of the stacked labels.

    Args:
        targets: Of (H, W) labels, at least one, all made alike and on one device.

    Raises:
        ValueError: No targets, of batches, or made with different shapes or arguments.
    """
    made_with = {each.made_with for each in targets}
    if len(made_with) != 1 or len(targets[0].shape) != 2:
        raise ValueError(
            'targets to stack must be of (H, W) labels and made with one (shape, ksize, ignore_index, ignore_policy), '
            f'got {sorted(made_with, key=str)}'
        )
    height, width = targets[0].shape
    return replace(
        targets[0],
        pixel=torch.cat([each.pixel + image * height * width for image, each in enumerate(targets)]),
        category=torch.cat([each.category for each in targets]),
        gradient=torch.cat([each.gradient for each in targets], 1),
        shape=(len(targets), height, width),
    )


def check_ignore_policy(ignore_policy: str) -> None:
    """Raise ValueError unless ``ignore_policy`` is 'exclude' or 'as_background'."""
    if ignore_policy not in IGNORE_POLICIES:
        raise ValueError(f'ignore_policy must be one of {IGNORE_POLICIES}, got {ignore_policy!r}')


@torch.compiler.disable
def boundary_targets(
    label: np.ndarray | Tensor,
    ksize: int,
    *,
    ignore_index: int = 255,
    ignore_policy: str = 'exclude',
    num_classes: int = MAX_CLASSES,
) -> BoundaryTargets:
    r"""Find the boundary entries of a label map and their exact gradients.

    G = S \star T with replicate padding (Eq. 5, 10, 11) and M = [G != 0] (Eq. 13). Sums are of integers, so the values
    are the same on every device and for numpy arrays and tensors.

    Args:
        label: (H, W) or (B, H, W), any integer dtype, class ids in [0, num_classes) or ``ignore_index``.
        ksize: Odd kernel size in [3, 11].
        ignore_index: Id of void pixels.
        ignore_policy: ``'exclude'`` drops every entry whose k x k window holds a void pixel; ``'as_background'`` lets
            T be zero at void pixels and drops entries at void pixels only, as the authors' published code does.
        num_classes: Limit of the ids, for checking them.

    Returns:
        The entries, on the label's device. A label without boundary gives zero entries.

    Raises:
        TypeError: ``label`` is no integer tensor or array, ``ksize`` or ``ignore_index`` no int.
        ValueError: Wrong number of dimensions, ``ksize`` or ``ignore_policy``, or an id out of range (on CUDA an
            asynchronous device assertion).

    Example:
        >>> targets = boundary_targets(torch.tensor([[0, 0, 1, 1]]), ksize=3)
        >>> targets.pixel.tolist(), targets.category.tolist(), targets.gradient[0].tolist()
        ([1, 2, 1, 2], [0, 0, 1, 1], [-4, -4, 4, 4])
    """
    ksize = check_ksize(ksize)
    check_ignore_index(ignore_index)
    check_ignore_policy(ignore_policy)
    label = check_label(label)
    if label.dim() not in (2, 3) or 0 in label.shape[-2:]:
        raise ValueError(f'label must have shape (H, W) or (B, H, W) with H, W > 0, got {tuple(label.shape)}')
    ids, void_id = _compact(label if label.dim() == 3 else label[None], ignore_index, num_classes)
    pixel, category, gradient = _find_entries(ids, void_id, ksize, ignore_policy)
    return BoundaryTargets(
        pixel=pixel,
        category=category,
        gradient=gradient,
        shape=tuple(label.shape),
        ksize=ksize,
        ignore_index=ignore_index,
        ignore_policy=ignore_policy,
    )


def _find_entries(ids: Tensor, void_id: int, ksize: int, ignore_policy: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel, category and gradient of the boundary entries of (B, H, W) ids, as BoundaryTargets has them."""
    _, height, width = ids.shape
    patch_px, dtype = TILE_PX + ksize - 1, _gradient_dtype(ksize)
    padded = pad_to_tiles(ids)
    candidate = mask_of_tiles(_boundary_candidates(padded, void_id, ksize, ignore_policy, height, width))
    tile = flat_nonzero(candidate.view(torch.int64).amax(1))  # eight pixels at a time
    candidate, origin = candidate.index_select(0, tile), tile_origin(tile, height, width).int()
    offset = torch.arange(TILE_PX, dtype=torch.int32, device=ids.device)
    offset = (offset[:, None] * width + offset).view(-1)
    patch = tile_patches(padded, tile, ksize // 2).flatten(0, 1)
    columns, categories, partners = _classes_of_patches(patch, void_id)
    found = []
    # gather and index_select, since indexing with [] takes several times as long on CPU.
    for chunk in chunk_slices(len(columns), patch_px**2 * dtype.itemsize // 4, ids.device):
        window = patch.gather(1, columns[chunk].expand(len(patch), -1)) == categories[chunk]
        gradient = correlate(window.to(dtype).unflatten(0, (patch_px, patch_px)), ksize)
        gradient = gradient.flatten(1, 2).transpose(1, 2).contiguous()
        # A class with a partner is followed by the partner, whose gradient is its negative.
        has_partner = (partners[chunk] ^ void_id).bool()
        index = torch.arange(len(has_partner), device=ids.device).repeat_interleave(1 + has_partner)
        is_partner = F.pad(index[1:] == index[:-1], (1, 0))
        gradient = gradient.index_select(1, index).mul_((1 - 2 * is_partner.to(dtype))[:, None])
        category = torch.where(is_partner, partners[chunk][index], categories[chunk][index])
        column = columns[chunk][index]
        entry = flat_nonzero((gradient[0] | gradient[1]).bool() & candidate.index_select(0, column))
        found.append(
            (
                (origin[column, None] + offset).view(-1).index_select(0, entry),
                category.index_select(0, entry >> _TILE_BITS),
                *(each.view(-1).index_select(0, entry) for each in gradient),
            )
        )
    pixel, category, *gradient = map(torch.cat, zip(*found, strict=True))
    return pixel, category, torch.stack(gradient)


def _gradient_dtype(ksize: int) -> torch.dtype:
    # The largest |G| is 4, 84, 5020, 1.2e6 and 1.7e9 for ksize 3, 5, 7, 9 and 11.
    return torch.int8 if ksize <= 5 else torch.int16 if ksize <= 7 else torch.int32


def _compact(label: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, int]:
    """Label in the smallest dtype that holds it, with void as the dtype's largest value: (label, void id)."""
    if is_readable(label) and 0 <= np.bitwise_or.reduce(label.numpy(), axis=None) < 256:
        label = label.to(torch.uint8)  # all that follows takes a fraction of its time for int64
        if ignore_index == 255 <= num_classes:
            return label.contiguous(), 255
    void = void_mask(label, ignore_index)
    highest = check_ids('label', label * ~void, num_classes, f' or ignore_index={ignore_index}')
    dtype = next(dtype for dtype in (torch.uint8, torch.int16, torch.int32) if highest < torch.iinfo(dtype).max)
    void_id = torch.iinfo(dtype).max
    return torch.maximum(label.to(dtype), void.to(dtype).mul_(void_id)).contiguous(), void_id


def flat_nonzero(values: Tensor) -> Tensor:
    """Flat indices (int64) of what is not zero."""
    if is_readable(values):  # numpy takes a fifth of torch's time or less
        return torch.from_numpy(np.flatnonzero(values.numpy()))
    return values.view(-1).nonzero()[:, 0]


def running_steps(ksize: int) -> Iterator[int]:
    """Distances at which two shorter windows are joined, one after another, until they are ksize long."""
    width = 1
    while width < ksize:
        step = min(width, ksize - width)
        yield step
        width += step


def _running(extremum, ids: Tensor, ksize: int, dim: int) -> Tensor:
    """``extremum`` (torch.maximum or torch.minimum) over every ksize neighbours along ``dim``."""
    for step in running_steps(ksize):
        length = ids.shape[dim] - step
        ids = extremum(ids.narrow(dim, 0, length), ids.narrow(dim, step, length))
    return ids


def window_extremum(extremum, values: Tensor, ksize: int) -> Tensor:
    """``extremum`` over every whole ksize x ksize window of (..., H, W): (..., H - ksize + 1, W - ksize + 1)."""
    return _running(extremum, _running(extremum, values, ksize, -2), ksize, -1)


def dilate(mask: Tensor, ksize: int) -> Tensor:
    """Whether the ksize x ksize window around a pixel, cut off at the image's edge, holds a pixel of a mask.

    Args:
        mask: (B, H, W) bool.
        ksize: Odd window size.

    Returns:
        (B, H, W) bool.
    """
    padded = F.pad(mask.view(torch.uint8), [ksize // 2] * 4)
    return window_extremum(torch.maximum, padded, ksize).view(torch.bool)


def _boundary_candidates(
    padded: Tensor, void_id: int, ksize: int, ignore_policy: str, height: int, width: int
) -> Tensor:
    """Pixels that the policy counts and whose window holds more than one id; elsewhere G is 0 or dropped.

    Returns:
        (B, rows of tiles * TILE_PX, columns of tiles * TILE_PX) bool, False outside the image.
    """
    halo = TILE_PX - ksize // 2
    around = padded[:, halo:-halo, halo:-halo]
    highest = window_extremum(torch.maximum, around, ksize)
    counted = highest if ignore_policy == 'exclude' else padded[:, TILE_PX:-TILE_PX, TILE_PX:-TILE_PX]
    candidate = highest != window_extremum(torch.minimum, around, ksize)
    candidate &= (counted ^ void_id).bool()  # !=, which takes 7 times as long with a number on CPU
    candidate[:, height:] = False
    candidate[:, :, width:] = False
    return candidate


def _classes_of_patches(patch: Tensor, void_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """The classes of every patch (pixels, n), sorted by patch, then class.

    Where a patch holds two classes and nothing else, one's one-hot label is 1 minus the other's, so that their
    gradients are each other's negative. Most patches are like this, and need but one row here.

    Returns:
        Index of the patch, class id, and the second class id of a patch with two classes, else the void id.
    """
    lowest, highest = patch.amin(0), patch.amax(0)
    is_two = ((patch == lowest) | (patch == highest)).view(torch.uint8).amin(0) * (highest ^ void_id).bool()
    two, other = flat_nonzero(is_two), flat_nonzero(1 - is_two)
    found = [(two, lowest[two], highest[two])]
    patch, lowest = patch.gather(1, other.expand(len(patch), -1)), lowest[other]
    while len(keep := flat_nonzero(lowest ^ void_id)):
        found.append((other[keep], lowest[keep], torch.full_like(lowest[keep], void_id)))
        if 2 * len(keep) < len(other):  # dropping what is done with costs more than one round with it
            other, lowest, patch = other[keep], lowest[keep], patch.gather(1, keep.expand(len(patch), -1))
        # The larger of class and void where the class has been found: void, and faster than masked_fill.
        patch = torch.maximum(patch, (patch <= lowest).to(patch.dtype).mul_(void_id))
        lowest = patch.amin(0)
    index, category, partner = map(torch.cat, zip(*found, strict=True))
    index, order = index.sort(stable=True)
    return index, category[order], partner[order]
