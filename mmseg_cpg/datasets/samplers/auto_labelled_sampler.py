from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dataset import ConcatDataset, DefaultSampler
from mmengine.dist import broadcast_object_list
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATA_SAMPLERS

from .class_shares import class_shares, draw, draw_probabilities
from .pixel_counts import counts_file, pixel_counts

TOLERANCE = 0.01  # of a class's share
FLOOR = 1e-4  # of all pixels, for very rare classes


@DATA_SAMPLERS.register_module()
class AutoLabelledSampler(DefaultSampler):
    """Mix a finely labeled set with an auto-labeled one at equal class frequencies, then use the fine set alone.

    Epochs are as long as with ``DefaultSampler`` on the fine set. Until ``switch_epoch``, half of an epoch is drawn
    uniformly from the fine set and half from the auto-labeled set, image i with a probability p[i] such that
    Σ p[i]·(pixels of a class in i) is proportional to the fine set's pixels of that class, for all classes. Of all such
    probabilities, the sampler uses those with the largest entropy. The frequencies are matched in expectation; a single
    epoch varies like a random half of the fine set. If the auto-labeled set cannot match them, the closest frequencies
    are used and a warning is logged. No image is drawn twice in an epoch. From ``switch_epoch`` on, the order is
    ``DefaultSampler``'s.

    The first start reads all labels and stores their counts next to them, see
    :func:`~mmseg_cpg.datasets.samplers.pixel_counts.pixel_counts`.

    Args:
        dataset (ConcatDataset): The fine set and the auto-labeled set, in this order.
        switch_epoch (int): The first epoch, counted from 0, with the fine set alone. The paper's T'.
        shuffle (bool): Must be True. It exists because configs set it for the sampler that this one replaces.
        seed (int, optional): Seed, the same in all processes. Defaults to None, a random one.

    Raises:
        TypeError: ``dataset`` is not a ConcatDataset of two datasets.
        ValueError: An argument has a wrong value; the auto-labeled set has no more images than half an epoch, or lacks
            a class of the fine set; a label cannot be read.
    """

    def __init__(
        self, dataset: ConcatDataset, switch_epoch: int, shuffle: bool = True, seed: int | None = None
    ) -> None:
        if len(getattr(dataset, 'datasets', ())) != 2:
            raise TypeError(
                'AutoLabelledSampler draws from a fine and an auto-labeled dataset: its dataset must be '
                f'AutoLabelledCityscapesDataset or a ConcatDataset of two, got {type(dataset).__name__}'
            )
        if not isinstance(switch_epoch, int) or switch_epoch < 0:
            raise ValueError(f'switch_epoch must be an int >= 0, got {switch_epoch!r}')
        if not shuffle:
            raise ValueError('AutoLabelledSampler draws at random: shuffle must be True, got False')
        fine, auto = dataset.datasets
        super().__init__(fine, seed=seed)
        self.switch_epoch = switch_epoch
        self.num_auto = self.total_size // 2
        if switch_epoch > 0:
            shared: list[Any] = [_auto_probabilities(fine, auto, self.num_auto) if self.rank == 0 else None]
            broadcast_object_list(shared)  # one process reads the labels
            self.probabilities: np.ndarray = shared[0]

    def __iter__(self) -> Iterator[int]:
        """Iterate the indices of this process's images in the concatenated dataset."""
        if self.epoch >= self.switch_epoch:
            return super().__iter__()
        rng = np.random.default_rng((self.seed, self.epoch))
        fine = rng.permutation(len(self.dataset))[: self.total_size - self.num_auto]
        auto = len(self.dataset) + draw(self.probabilities, self.num_auto, rng)
        mixed = rng.permutation(np.concatenate([fine, auto]))
        return iter(mixed[self.rank :: self.world_size].tolist())


def _auto_probabilities(fine: BaseSegDataset, auto: BaseSegDataset, size: int) -> np.ndarray:
    """The probability of each auto-labeled image in an epoch that draws ``size`` of them."""
    if len(auto) <= size:
        raise ValueError(f'an epoch needs more than {size} auto-labeled images, but there are {len(auto)}')
    classes = fine.metainfo['classes']
    shares, counts = class_shares(pixel_counts(fine)), pixel_counts(auto)
    lacking = [
        name for name, share, total in zip(classes, shares, counts.sum(axis=0), strict=True) if share and not total
    ]
    if lacking:
        raise ValueError(
            f'no auto-labeled image contains {", ".join(lacking)}, which the fine set contains: are the auto-labeled '
            'images complete, and do their labels contain label ids? Check with tools/misc/check_dataset.py (counts '
            f"are stored in '{counts_file(auto)}')"
        )
    probabilities = draw_probabilities(counts, shares, size)
    reached = class_shares(probabilities[:, None] * counts)
    deviation = np.abs(reached - shares) / (shares + FLOOR)
    missed = (deviation > TOLERANCE).sum()
    if missed:
        worst = deviation.argmax()
        print_log(
            f'The class frequencies of the fine set cannot be matched exactly by drawing {size} auto-labeled images: '
            f'{missed} of {len(classes)} classes deviate by more than {TOLERANCE:.0%}, most of all '
            f"'{classes[worst]}' with {reached[worst]:.3%} of the pixels instead of {shares[worst]:.3%}.",
            'current',
            logging.WARNING,
        )
    return probabilities
