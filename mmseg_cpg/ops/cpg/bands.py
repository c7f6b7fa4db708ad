"""A batch in bands of whole rows of tiles, and the order in which threads work on them.

Work on a band also reads and writes pixels of its neighbors, at most a tile away. So a step of a band has to wait for
the previous step of its neighbors. Each thread takes a range of bands and works through all steps by itself; only the
bands at the ends of the ranges are left for a second round. Thus threads wait for each other twice in all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from .targets import BoundaryTargets
from .tiles import TILE_PX, tile_grid

Step = Callable[[int], None]
Job = list[Callable[[], None]]

# A band fits into a CPU's cache, but is large enough that the overhead of torch's calls does not matter. In noise-like
# labels the entries, not the logits, limit its size.
_ELEMENTS_OF_BAND, _ENTRIES_OF_BAND = 2**20, 2**15
# Small batches have about as many bands, so that threads can share them, too.
_BANDS_OF_BATCH = 16
# In shorter ranges, the bands that both ends leave to the second round would overlap.
_BANDS_OF_RANGE = 8


class Band(NamedTuple):
    """Some rows of one image.

    Attributes:
        image: Index into the batch.
        rows: Of the image.
        entries: The boundary entries in these rows.
    """

    image: int
    rows: slice
    entries: slice


def bands_of_batch(targets: BoundaryTargets, num_classes: int) -> list[Band]:
    """Split a batch on the CPU into bands. The split does not depend on the number of threads.

    Args:
        targets: Of a (B, H, W) label.
        num_classes: C of the logits.
    """
    batch, height, width = targets.shape
    rows_of_tiles, _ = tile_grid(height, width)
    row_px = TILE_PX * width
    total = batch * rows_of_tiles
    most = (_ELEMENTS_OF_BAND // (num_classes * row_px), _ENTRIES_OF_BAND * total // max(len(targets), 1))
    step_px = TILE_PX * max(min(*most, total // _BANDS_OF_BATCH), 1)
    starts = [(image, y) for image in range(batch) for y in range(0, height, step_px)]
    # The entries of a row of tiles come before those of the next.
    pixel = targets.pixel.numpy()
    first = [bisect_left(pixel, (image * height + y) * width) for image, y in starts]
    return [
        Band(image, slice(y, min(y + step_px, height)), slice(*entries))
        for (image, y), entries in zip(starts, pairwise([*first, len(pixel)]), strict=True)
    ]


def schedule(number: int, steps: Sequence[Step], most: int = 16) -> tuple[list[Job], list[Job]]:
    """Arrange the steps of all bands in two rounds of jobs.

    A step of a band runs after the previous step of the band and of both its neighbors. The jobs of a round may run in
    parallel: no two of them work on the same band or on neighbors.

    Args:
        number: Number of bands.
        steps: At most four functions, each called with the index of a band.
        most: Maximum number of ranges. At the ends of each, intermediate results stay in memory until the second round.
    """
    count = max(1, min(number // _BANDS_OF_RANGE, most))
    ends = [number * index // count for index in range(count + 1)]
    ranges: list[Job] = [
        [
            partial(step, band - s)
            for band in range(first, end + len(steps))
            for s, step in enumerate(steps)
            if first + s * (first > 0) <= band - s < end - s * (end < number)
        ]
        for first, end in pairwise(ends)
    ]
    edges: list[Job] = [
        [partial(step, band) for s, step in enumerate(steps) for band in range(end - s, end + s)] for end in ends[1:-1]
    ]
    return ranges, edges
