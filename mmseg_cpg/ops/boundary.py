"""The boundary of a label map, decided in integers (CPG paper, section 3.2.2, Eq. 13).

T: one-hot label; G = S * T: its gradient; M: boundary entries, where G is exactly non-zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .chunks import chunk_slices
from .kernels import check_ksize
from .tiles import TILE_PX, correlate, tile_grid, tile_pixels

MAX_CLASSES = torch.iinfo(torch.int32).max
IGNORE_POLICIES = ('exclude', 'as_background')
# All others, unsigned with 16 bits or more, have hardly any operation in torch.
_PLAIN_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


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


def check_label(label: np.ndarray | Tensor) -> Tensor:
    """Return ``label`` as an integer tensor, or raise TypeError."""
    if isinstance(label, np.ndarray) and label.dtype.kind in 'iu':
        # torch takes no foreign byte order or negative strides, and warns of read-only arrays.
        label = torch.from_numpy(np.require(label, label.dtype.newbyteorder('='), ('C', 'W')))
    if not isinstance(label, (np.ndarray, Tensor)):
        raise TypeError(f'label must be a torch.Tensor or numpy.ndarray, got {type(label).__name__}')
    if isinstance(label, np.ndarray) or label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f'label must have an integer dtype, got {label.dtype}')
    return label if label.dtype in _PLAIN_DTYPES else label.long()


def check_ignore_index(ignore_index: int) -> None:
    """Raise TypeError unless ``ignore_index`` is an int."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, Integral):
        raise TypeError(f'ignore_index must be an int, got {ignore_index!r}')


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
        >>> targets = boundary_targets(np.array([[0, 0, 1, 1]]), ksize=3)
        >>> targets.pixel.tolist(), targets.category.tolist(), targets.gradient[0].tolist()
        ([1, 2, 1, 2], [0, 0, 1, 1], [-4, -4, 4, 4])
    """
    ksize = check_ksize(ksize)
    check_ignore_index(ignore_index)
    check_ignore_policy(ignore_policy)
    label = check_label(label)
    if label.dim() not in (2, 3) or 0 in label.shape[-2:]:
        raise ValueError(f'label must have shape (H, W) or (B, H, W) with H, W > 0, got {tuple(label.shape)}')
    height, width = label.shape[-2:]
    ids, void_id = _compact(label if label.dim() == 3 else label[None], ignore_index, num_classes)
    candidate = _tile_view(_boundary_candidates(ids, void_id, ksize, ignore_policy))
    tile = candidate.view(torch.int64).any(1).nonzero()[:, 0]  # eight at a time
    patch = ids.view(-1)[tile_pixels(tile, height, width, halo_px=ksize // 2)]
    column, category = _classes_of_patches(patch, void_id)
    pixel = tile_pixels(tile, height, width).flatten(0, 1)
    found = []
    # gather and index_select, since indexing with [] takes several times as long on CPU.
    for chunk in chunk_slices(len(column), patch.shape[0] ** 2, label.device):
        window = patch.flatten(0, 1).gather(1, column[chunk].expand(patch.shape[0] ** 2, -1)).view(*patch.shape[:2], -1)
        gradient = correlate((window == category[chunk]).to(_gradient_dtype(ksize)), ksize).flatten(1, 2)
        counted = (gradient[0] | gradient[1]).T.bool() & candidate.index_select(0, tile[column[chunk]])
        pair, position = counted.nonzero(as_tuple=True)
        found.append(
            (
                pixel.take(position * pixel.shape[1] + column[chunk].index_select(0, pair)),
                category[chunk].index_select(0, pair),
                gradient.flatten(1).index_select(1, position * gradient.shape[2] + pair),
            )
        )
    pixel, category, gradient = (torch.cat(part, -1) for part in zip(*found, strict=True))
    return BoundaryTargets(
        pixel=pixel.int(),
        category=category,
        gradient=gradient,
        shape=tuple(label.shape),
        ksize=ksize,
        ignore_index=ignore_index,
        ignore_policy=ignore_policy,
    )


def _gradient_dtype(ksize: int) -> torch.dtype:
    # The largest |G| is 4, 84, 5020, 1.2e6 and 1.7e9 for ksize 3, 5, 7, 9 and 11.
    return torch.int8 if ksize <= 5 else torch.int16 if ksize <= 7 else torch.int32


def _compact(label: Tensor, ignore_index: int, num_classes: int) -> tuple[Tensor, int]:
    """Label in the smallest dtype that holds it, with void as the dtype's largest value: (label, void id)."""
    if label.device.type == 'cpu' and label.numel() and label.min() >= 0 and label.max() < 256:
        label = label.to(torch.uint8)  # all that follows takes a fraction of its time for int64
    void = void_mask(label, ignore_index)
    highest = check_ids('label', label * ~void, num_classes, f' or ignore_index={ignore_index}')
    dtype = next(dtype for dtype in (torch.uint8, torch.int16, torch.int32) if highest < torch.iinfo(dtype).max)
    void_id = torch.iinfo(dtype).max
    return torch.maximum(label.to(dtype), void.to(dtype).mul_(void_id)).contiguous(), void_id


def _running(extremum, ids: Tensor, ksize: int, dim: int) -> Tensor:
    """``extremum`` (torch.maximum or torch.minimum) over every ksize neighbours along ``dim``."""
    width = 1
    while width < ksize:
        step = min(width, ksize - width)
        length = ids.shape[dim] - step
        ids = extremum(ids.narrow(dim, 0, length), ids.narrow(dim, step, length))
        width += step
    return ids


def window_extremum(extremum, values: Tensor, ksize: int) -> Tensor:
    """``extremum`` over the ksize x ksize window of every pixel of (B, H, W), clipped at the image's edge."""
    radius = ksize // 2
    for dim in (1, 2):
        size = [*values.shape]
        first, last = values.narrow(dim, 0, 1), values.narrow(dim, size[dim] - 1, 1)
        size[dim] = radius
        values = _running(extremum, torch.cat([first.expand(size), values, last.expand(size)], dim), ksize, dim)
    return values


def _boundary_candidates(ids: Tensor, void_id: int, ksize: int, ignore_policy: str) -> Tensor:
    """Pixels (B, H, W) that the policy counts and whose window holds more than one id; elsewhere G is 0 or dropped."""
    highest = window_extremum(torch.maximum, ids, ksize)
    counted = highest if ignore_policy == 'exclude' else ids
    return (highest != window_extremum(torch.minimum, ids, ksize)) & (counted != void_id)


def _tile_view(mask: Tensor) -> Tensor:
    """(B, H, W) as (B * tiles, TILE_PX^2), zero beyond the image."""
    batch, height, width = mask.shape
    rows, columns = tile_grid(height, width)
    mask = F.pad(mask, (0, columns * TILE_PX - width, 0, rows * TILE_PX - height))
    mask = mask.view(batch, rows, TILE_PX, columns, TILE_PX).transpose(2, 3)
    return mask.reshape(batch * rows * columns, TILE_PX**2)


def _classes_of_patches(patch: Tensor, void_id: int) -> tuple[Tensor, Tensor]:
    """Every class of every patch (rows, columns, n): (index of the patch, class id), sorted by patch, then class."""
    patch = patch.flatten(0, 1)
    index = torch.arange(patch.shape[1], device=patch.device)
    lowest = patch.amin(0)
    found = []
    while (keep := (lowest != void_id).nonzero()[:, 0]).numel():
        found.append((index[keep], lowest[keep]))
        if 2 * keep.numel() < index.numel():  # dropping what is done with costs more than one round with it
            index, lowest, patch = index[keep], lowest[keep], patch[:, keep]
        # The larger of class and void where the class has been found: void, and faster than masked_fill.
        patch = torch.maximum(patch, (patch <= lowest).to(patch.dtype).mul_(void_id))
        lowest = patch.amin(0)
    index, category = (torch.cat(part) for part in zip(*found, strict=True)) if found else (index[:0], lowest[:0])
    index, order = index.sort(stable=True)
    return index, category[order]
