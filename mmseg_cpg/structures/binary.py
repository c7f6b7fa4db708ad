"""Conventions of binary tasks: id 0 is the background and id 1 the class."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor


def names_by_id(classes: Sequence[str]) -> Sequence[str]:
    """The names of the ids in labels. If there is one class, it has id 1, and 0 is the background."""
    return classes if len(classes) > 1 else ('background', *classes)


def binary_ids(label: np.ndarray | Tensor, ignore_index: int) -> set[int]:
    """Which of background, class and void a label of a binary task contains, by id."""
    return {each for each in (0, 1, ignore_index) if bool((label == each).any())}


def void_in_place_of_class(
    ids: Collection[int], num_classes: int, ignore_index: int, finding: str = 'no label contains'
) -> str | None:
    """Explain labels in which void probably marks the class of a binary task.

    Masks with the values 0 and 255 are common. With 255 as void, they have no pixel of the class: a prediction of
    background alone is perfect, and losses have nothing to learn from.

    Args:
        ids: The ids in the labels, after loading.
        num_classes: Number of classes of the task.
        ignore_index: Id of void pixels.
        finding: The words before 'class 1': which labels do not contain it.

    Returns:
        A sentence or more; None if the labels are all right or the task has more than two classes.
    """
    if num_classes > 2 or set(ids) != {0, ignore_index} or ignore_index in (0, 1):
        return None
    void = ignore_index
    return (
        f'{void} is void here, and {finding} class 1, only 0 and {void}. Void counts neither in losses nor in '
        f'scores. If {void} marks the class, replace it with 1 in the label files. If reduce_zero_label=True turned '
        f'0 into {void}, set it to False.'
    )
