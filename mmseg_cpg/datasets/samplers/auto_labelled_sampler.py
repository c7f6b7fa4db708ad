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
FLOOR = 1e-4  # of all pixels, for classes that the fine set hardly has


@DATA_SAMPLERS.register_module()
class AutoLabelledSampler(DefaultSampler):
    """Mix a finely labeled set with an auto-labeled one, with the fine set's share of each class, then drop the mix.

    Epochs are as long as with ``DefaultSampler`` on the fine set alone. Until ``switch_epoch`` half of an epoch is
    drawn from the fine set, each image being as likely, and half from the auto-labeled set, image i with a probability
    p[i] such that Σ p[i]·(pixels of a class in i) is in proportion to the fine set's pixels of that class, for every
    class at once. Of all such probabilities those of the largest entropy are taken. So the shares are met in
    expectation; a single epoch scatters around them as a random half of the fine set does. Where the auto-labeled set
    cannot have these shares, it is drawn from as close to them as it can be, and a warning is logged. No image is drawn
    twice in an epoch. From ``switch_epoch`` on the order is ``DefaultSampler``'s.

    The first start reads all labels and stores their counts next to them, see
    :func:`~mmseg_cpg.datasets.samplers.pixel_counts.pixel_counts`.

    Args:
        dataset (ConcatDataset): The fine set and the auto-labeled set, in this order.
        switch_epoch (int): The first epoch, counted from 0, with the fine set alone. The paper's T'.
        shuffle (bool): Must be True; here because configs set it for the sampler that this one replaces.
        seed (int, optional): The same in all processes. Defaults to None, a random one.

    Raises:
        TypeError: ``dataset`` is not a ConcatDataset of two.
        ValueError: An argument has a wrong value; the auto-labeled set has no more images than half an epoch takes, or
            lacks a class of the fine set; a label cannot be read.
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
    """Find how likely each auto-labeled image must be in an epoch that draws ``size`` of them."""
    if len(auto) <= size:
        raise ValueError(f'an epoch draws {size} auto-labeled images out of more than that, but there are {len(auto)}')
    classes = fine.metainfo['classes']
    shares, counts = class_shares(pixel_counts(fine)), pixel_counts(auto)
    lacking = [
        name for name, share, total in zip(classes, shares, counts.sum(axis=0), strict=True) if share and not total
    ]
    if lacking:
        raise ValueError(
            f'no auto-labeled image has {", ".join(lacking)}, which the fine set has: are the auto-labeled images '
            'complete, and are their labels label ids? tools/misc/check_dataset.py checks (the counts are stored in '
            f"'{counts_file(auto)}')"
        )
    probabilities = draw_probabilities(counts, shares, size)
    reached = class_shares(probabilities[:, None] * counts)
    deviation = np.abs(reached - shares) / (shares + FLOOR)
    missed = (deviation > TOLERANCE).sum()
    if missed:
        worst = deviation.argmax()
        print_log(
            f'The class frequencies of the fine set cannot be matched exactly by drawing {size} auto-labeled images: '
            f'those of {missed} of {len(classes)} classes deviate by more than {TOLERANCE:.0%}, most of all '
            f"'{classes[worst]}' with {reached[worst]:.3%} of the pixels instead of {shares[worst]:.3%}.",
            'current',
            logging.WARNING,
        )
    return probabilities
