"""The boundary of a label map, computed in integers (CPG paper, section 3.2.2, Eq. 13).

T: one-hot label; G = S * T: its Sobel response, ``edge_true``; M: boundary entries, where G is exactly non-zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .._common import chunk_slices, flat_nonzero, is_readable
from .._morphology import window_extremum
from .._threads import num_threads, parallel_map, run_alone
from .._validation import check_ids, check_int, check_label, check_same_origin, void_mask
from .options import CPGOptions
from .sobel import correlate
from .tiles import TILE_PX, mask_of_tiles, pad_to_tiles, tile_origin, tile_patches

MAX_CLASSES = torch.iinfo(torch.int32).max
_MAX_PIXELS = torch.iinfo(torch.int32).max  # whose indices BoundaryTargets can represent
# In pixels. In smaller bands, Python takes longer to call torch than torch to compute, and runs one thread at a time.
_SMALLEST_BAND = 2**18


@dataclass(frozen=True, eq=False)
class BoundaryTargets:
    """Boundary entries of a label map, the sparse form of G and M.

    An entry is a pixel and a class for which at least one of the two Sobel responses is non-zero. Entries are sorted
    by 8 x 8 tile, then class, then position, so the targets of a batch are those of its images one after another.

    Attributes:
        pixel: (n,) int32, flat index into the label.
        class_index: (n,), in the smallest of uint8, int16 and int32 that can represent the label's ids (on CUDA:
            ``num_classes``) and void.
        edge_true: (2, n) int8, int16 or int32 (ksize up to 5, 7, 11), numerators of the x and the y component of G
            over the denominator of :func:`~mmseg_cpg.ops.sobel_numerators`.
        shape: Shape of the label, (H, W) or (B, H, W).
        ksize, ignore_index, ignore_policy: Arguments the targets were computed with.
    """

    pixel: Tensor
    class_index: Tensor
    edge_true: Tensor
    shape: tuple[int, ...]
    ksize: int
    ignore_index: int
    ignore_policy: str

    def __len__(self) -> int:
        return len(self.pixel)

    @property
    def made_with(self) -> tuple[tuple[int, ...], int, int, str]:
        """(shape, ksize, ignore_index, ignore_policy), which must match those of the loss."""
        return self.shape, self.ksize, self.ignore_index, self.ignore_policy

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.pixel.device

    @run_alone
    def mask(self) -> Tensor:
        """The boundary pixels: bool, of the label's shape, True where a pixel has an entry of any class."""
        mask = torch.zeros(math.prod(self.shape), dtype=torch.bool, device=self.device)
        return mask.index_fill_(0, self.pixel.long(), True).view(self.shape)

    def foreground(self) -> BoundaryTargets:
        """The entries of class 1 as those of class 0, for logits with one channel."""
        keep = flat_nonzero(self.class_index == 1)
        return replace(
            self,
            pixel=self.pixel[keep],
            class_index=self.class_index[keep] - 1,
            edge_true=self.edge_true[:, keep],
        )


def stack_targets(targets: Sequence[BoundaryTargets]) -> BoundaryTargets:
    """The targets of a batch from those of its images, equal to :func:`boundary_targets` of the stacked labels.

    Args:
        targets: Of (H, W) labels, at least one, all computed with the same arguments and on one device.

    Raises:
        ValueError: No targets, targets of batches, or targets of different shapes or arguments.
    """
    check_same_origin('targets', 'shape, ksize, ignore_index, ignore_policy', [each.made_with for each in targets])
    height, width = targets[0].shape
    return replace(
        targets[0],
        pixel=torch.cat([each.pixel + image * height * width for image, each in enumerate(targets)]),
        class_index=torch.cat([each.class_index for each in targets]),
        edge_true=torch.cat([each.edge_true for each in targets], 1),
        shape=(len(targets), height, width),
    )


def check_targets(targets: BoundaryTargets, label: Tensor, options: CPGOptions, num_classes: int) -> None:
    """Raise TypeError or ValueError unless ``targets`` were computed for such a label with these options.

    Class ids must be in [0, num_classes) (on CUDA an asynchronous device assertion).
    """
    if not isinstance(targets, BoundaryTargets):
        raise TypeError(f'targets must be BoundaryTargets, got {type(targets).__name__}')
    expected = (tuple(label.shape), options.ksize, options.ignore_index, options.ignore_policy)
    if targets.made_with != expected:
        raise ValueError(
            f'targets must be computed with (label shape, ksize, ignore_index, ignore_policy) = {expected}, '
            f'got {targets.made_with}'
        )
    if targets.device != label.device:
        raise ValueError(f"targets must be on the label's device {label.device}, got {targets.device}")
    check_ids('class ids of the label that targets were computed from', targets.class_index, num_classes)


@torch.compiler.disable
def boundary_targets(
    label: np.ndarray | Tensor,
    ksize: int,
    *,
    ignore_index: int = 255,
    ignore_policy: str = 'exclude',
    num_classes: int = MAX_CLASSES,
) -> BoundaryTargets:
    r"""Find the boundary entries of a label map and their exact Sobel responses.

    G = S \star T with replicate padding (Eq. 5, 10, 11) and M = [G != 0] (Eq. 13). Sums are of integers, so the values
    are the same on every device and for numpy arrays and tensors.

    Args:
        label: (H, W) or (B, H, W), any integer dtype, class ids in [0, num_classes) or ``ignore_index``.
        ksize: Odd kernel size in [3, 11].
        ignore_index: Id of void pixels.
        ignore_policy: ``'exclude'`` drops every entry whose k x k window has a void pixel; ``'as_background'`` sets
            T = 0 at void pixels and drops entries at void pixels only, as the authors' published code does.
        num_classes: Upper limit of the ids, in [1, 2^31 - 1].

    Returns:
        The entries, on the label's device. A label without boundary has none.

    Raises:
        TypeError: ``label`` is not an integer tensor or array, ``ksize``, ``ignore_index`` or ``num_classes`` not an
            int.
        ValueError: Wrong number of dimensions, ``ksize``, ``ignore_policy`` or ``num_classes``, 2^31 pixels or more, or
            an id out of range (on CUDA an asynchronous device assertion).

    Example:
        >>> targets = boundary_targets(torch.tensor([[0, 0, 1, 1]]), ksize=3)
        >>> targets.pixel.tolist(), targets.class_index.tolist(), targets.edge_true[0].tolist()
        ([1, 2, 1, 2], [0, 0, 1, 1], [-4, -4, 4, 4])
    """
    options = CPGOptions(ksize, ignore_index, ignore_policy)
    num_classes = check_int('num_classes', num_classes, 1, MAX_CLASSES)
    label = check_label(label)
    if label.dim() not in (2, 3) or 0 in label.shape[-2:]:
        raise ValueError(f'label must have shape (H, W) or (B, H, W) with H, W > 0, got {tuple(label.shape)}')
    targets = targets_of_batch(label if label.dim() == 3 else label[None], options, num_classes)
    return replace(targets, shape=tuple(label.shape))


def targets_of_batch(label: Tensor, options: CPGOptions, num_classes: int) -> BoundaryTargets:
    """:func:`boundary_targets` of a (B, H, W) label whose type and number of dimensions have been checked."""
    if label.numel() > _MAX_PIXELS:
        raise ValueError(f'label must have fewer than 2^31 pixels, got shape {tuple(label.shape)}')
    device = label.device
    bands = _bands(label.shape, device)
    padded, void_id = _compact_and_pad(label, options.ignore_index, num_classes)
    find = partial(_find_entries_of_band, padded, label.shape, void_id, options)
    columns: tuple[list[Tensor], ...] = [], [], []
    for found in parallel_map(find, bands, device):
        for column, part in zip(columns, found, strict=True):
            column.append(part)
    pixel, class_index, edge_true = parallel_map(_join, columns, device)
    return BoundaryTargets(
        pixel=pixel,
        class_index=class_index,
        edge_true=edge_true,
        shape=tuple(label.shape),
        ksize=options.ksize,
        ignore_index=options.ignore_index,
        ignore_policy=options.ignore_policy,
    )


@run_alone
def _compact_and_pad(label: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, int]:
    """What :func:`_compact` returns, the label as :func:`pad_to_tiles` does."""
    ids, void_id = _compact(label, ignore_index, num_classes)
    return pad_to_tiles(ids), void_id


def _compact(label: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, int]:
    """Label in the smallest dtype that can represent it, with void as the dtype's largest value: (label, void id)."""
    # The bitwise or is negative if any id is, and 256 or more if any id is. NumPy computes it faster than two extrema.
    if is_readable(label) and 0 <= np.bitwise_or.reduce(label.numpy(), axis=None) < 256:
        label = label.to(torch.uint8)  # all further steps are several times faster than for int64
        if ignore_index == 255 <= num_classes:
            return label.contiguous(), 255
    void = void_mask(label, ignore_index)
    highest = check_ids('label', label * ~void, num_classes, f' or ignore_index={ignore_index}')
    dtype = next(dtype for dtype in (torch.uint8, torch.int16, torch.int32) if highest < torch.iinfo(dtype).max)
    void_id = torch.iinfo(dtype).max
    return torch.maximum(label.to(dtype), void.to(dtype).mul_(void_id)).contiguous(), void_id


def _bands(shape: torch.Size, device: torch.device) -> list[tuple[int, slice]]:
    """Split (B, H, W) into bands of whole rows of tiles, at least one: image, and slice of its rows."""
    batch, height, _ = shape
    threads = num_threads(device)
    for_threads = min(2 * threads, shape.numel() // _SMALLEST_BAND) if threads > 1 else 1
    number = max(for_threads, shape.numel() // (2**19 if device.type == 'cpu' else 2**24), 1)
    band_px = TILE_PX * -(-height // (TILE_PX * -(-number // max(batch, 1))))
    bands = [(image, slice(y, min(y + band_px, height))) for image in range(batch) for y in range(0, height, band_px)]
    return bands or [(0, slice(0, 0))]


def _join(parts: list[Tensor]) -> Tensor:
    """Concatenate along the last axis, and release the parts."""
    joined = torch.cat(parts, -1)
    parts.clear()
    return joined


def _find_entries_of_band(
    padded: Tensor, shape: torch.Size, void_id: int, options: CPGOptions, band: tuple[int, slice]
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_find_entries` of one of the :func:`_bands`."""
    image, lines = band
    _, height, width = shape
    of_band = torch.Size((1, lines.stop - lines.start, width))
    # Its tiles, and a row of tiles above and below.
    end = lines.start + (2 - -of_band[1] // TILE_PX) * TILE_PX
    found = _find_entries(padded[image : image + 1, lines.start : end], of_band, void_id, options)
    found[0].add_((image * height + lines.start) * width)
    return found


def _boundary_candidates(padded: Tensor, shape: torch.Size, void_id: int, options: CPGOptions) -> Tensor:
    """Valid pixels whose window contains more than one id; all others have G = 0 or are dropped by the policy.

    Args:
        padded: From :func:`pad_to_tiles`.
        shape: (B, H, W) before padding.
        void_id: Id of void pixels, the largest value of the dtype.
        options: With ``'exclude'`` a pixel is valid if its window has no void pixel, else if it is not void itself.

    Returns:
        (B, rows of tiles * TILE_PX, columns of tiles * TILE_PX) bool, False outside the image.
    """
    halo = TILE_PX - options.ksize // 2
    around = padded[:, halo:-halo, halo:-halo]
    highest = window_extremum(torch.maximum, around, options.ksize)
    candidate = highest != window_extremum(torch.minimum, around, options.ksize)
    must_not_be_void = highest if options.ignore_policy == 'exclude' else padded[:, TILE_PX:-TILE_PX, TILE_PX:-TILE_PX]
    candidate &= (must_not_be_void ^ void_id).bool()  # != with a number is several times slower on CPU
    candidate[:, shape[1] :] = False
    candidate[:, :, shape[2] :] = False
    return candidate


def _find_entries(
    padded: Tensor, shape: torch.Size, void_id: int, options: CPGOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel, class index and Sobel response of all boundary entries, as in BoundaryTargets.

    Args:
        padded: From :func:`pad_to_tiles`.
        shape: (B, H, W) before padding.
        void_id: Id of void pixels.
        options: Kernel size and void policy.
    """
    _, height, width = shape
    ksize = options.ksize
    candidate = mask_of_tiles(_boundary_candidates(padded, shape, void_id, options))
    tile = flat_nonzero(candidate.view(torch.int64).amax(1))  # eight pixels at a time
    candidate, origin = candidate.index_select(0, tile), tile_origin(tile, height, width).int()
    offset = torch.arange(TILE_PX, dtype=torch.int32, device=padded.device)
    offset = (offset[:, None] * width + offset).view(-1)
    patch = tile_patches(padded, tile, ksize // 2)
    rows = _classes_of_patches(patch.flatten(0, 1), void_id)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    patch_px, dtype = len(patch), _edge_dtype(ksize)
    # gather and index_select are several times faster on CPU than indexing with [].
    # An entry takes several indices of 8 bytes; of noise, nearly every pixel has one for each class.
    entries = int(candidate.count_nonzero()) // max(len(tile), 1)
    elements = max(patch_px**2 * dtype.itemsize // 4, 2 * entries)
    for chunk in chunk_slices(len(rows.patch), elements, padded.device):
        part = _PatchClasses(*(each[chunk] for each in rows))
        window = patch.flatten(0, 1).gather(1, part.patch.expand(patch_px**2, -1)) == part.class_index
        edge_true = correlate(window.to(dtype).unflatten(0, (patch_px, patch_px)), ksize)
        edge_true = edge_true.flatten(1, 2).transpose(1, 2).contiguous()
        part, edge_true = _add_partners(part, edge_true, void_id)
        entry = flat_nonzero((edge_true[0] | edge_true[1]).bool() & candidate.index_select(0, part.patch))
        row = entry.div(TILE_PX**2, rounding_mode='floor')
        patch_of_entry, position = part.patch.index_select(0, row), entry - row * TILE_PX**2
        found.append(
            (
                origin.index_select(0, patch_of_entry) + offset.index_select(0, position),
                part.class_index.index_select(0, row),
                edge_true.flatten(1).index_select(1, entry),
            )
        )
    pixels, class_indices, edges = zip(*found, strict=True)
    return torch.cat(pixels), torch.cat(class_indices), torch.cat(edges, 1)


def _edge_dtype(ksize: int) -> torch.dtype:
    # The largest |G| is 4, 84, 5020, 1.2e6 and 1.7e9 for ksize 3, 5, 7, 9 and 11.
    return torch.int8 if ksize <= 5 else torch.int16 if ksize <= 7 else torch.int32


class _PatchClasses(NamedTuple):
    """Classes of patches, sorted by patch, then class.

    If a patch contains exactly two classes and no void, the one-hot label of one is 1 minus that of the other, so the
    Sobel response of one is the negative of the other's. Such patches, which are most, have one row here.
    """

    patch: Tensor  # index of the patch
    class_index: Tensor
    partner: Tensor  # the other class of a patch with two classes, else the void id


def _classes_of_patches(patch: Tensor, void_id: int) -> _PatchClasses:
    """The classes of patches with two or more ids each, (pixels, n)."""
    lowest, highest = patch.amin(0), patch.amax(0)
    is_one_of_two = ((patch == lowest) | (patch == highest)).view(torch.uint8)
    has_two = is_one_of_two.amin(0).bool() & (highest != void_id)
    two, other = flat_nonzero(has_two), flat_nonzero(~has_two)
    found = [(two, lowest[two], highest[two])]
    # In all other patches: note the lowest class and set its pixels to void, until only void is left.
    patch, lowest = patch.index_select(1, other), lowest[other]
    while len(left := flat_nonzero(lowest != void_id)):
        found.append((other[left], lowest[left], torch.full_like(lowest[left], void_id)))
        patch = torch.maximum(patch, (patch == lowest).to(patch.dtype) * void_id)  # faster than masked_fill on CPU
        lowest = patch.amin(0)
    index, class_index, partner = map(torch.cat, zip(*found, strict=True))
    index, order = index.sort(stable=True)
    return _PatchClasses(index, class_index[order], partner[order])


def _add_partners(rows: _PatchClasses, edge_true: Tensor, void_id: int) -> tuple[_PatchClasses, Tensor]:
    """Add a row for each partner after that of its class, with the negative of the (2, rows, pixels) response."""
    has_partner = rows.partner != void_id
    row = torch.arange(len(has_partner), device=has_partner.device).repeat_interleave(1 + has_partner)
    is_partner = F.pad(row[1:] == row[:-1], (1, 0))
    edge_true = edge_true.index_select(1, row).mul_((1 - 2 * is_partner.to(edge_true.dtype))[:, None])
    class_index = torch.where(is_partner, rows.partner[row], rows.class_index[row])
    return _PatchClasses(rows.patch[row], class_index, rows.partner[row]), edge_true
