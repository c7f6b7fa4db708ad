from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from .base import SegmentationLoss


class PrecomputableLoss(SegmentationLoss):
    """A loss with targets that follow from the label alone, so that a transform can make them while loading.

    ``BoundaryTargetHook`` serves every such loss. A subclass says, in the attributes below, what its targets are; it
    takes those that :meth:`_take_precomputed` returns, and where that is None makes its own, which must be the same.

    Attributes:
        family (str): What messages call these losses, in the plural.
        target_type (type): Of its targets, with ``shape``, ``ignore_index`` and ``made_with``.
        stack_targets (Callable): Makes a batch's targets of those of its images.
        transform (str): The transform that makes them.
        precomputed (tuple): Targets of the batch that the loss is called with next, where they were made beforehand;
            those that fit the call are used. ``BoundaryTargetHook`` sets and clears them.
    """

    family: ClassVar[str]
    target_type: ClassVar[type]
    stack_targets: ClassVar[Callable]
    transform: ClassVar[str]

    def __init__(
        self, loss_weight: float, loss_name: str, reduction: str, class_weight: list[float] | str | None = None
    ) -> None:
        super().__init__(loss_weight, loss_name, reduction, class_weight)
        self.precomputed: tuple = ()
        self._told_misfit = False

    @classmethod
    def describe_targets(cls, targets: tuple) -> str:
        """What the log says that these losses use."""
        return 'boundaries that were found while loading'

    def _take_precomputed(self, needed: tuple, names: str) -> Any:
        """The precomputed targets made with ``needed``, else None, with one warning if there are others."""
        for targets in self.precomputed:
            if targets.made_with == needed:
                return targets
        if self.precomputed and not self._told_misfit:
            self._told_misfit = True
            warnings.warn(
                f'{type(self).__name__} finds the boundary itself: it needs ({names}) = {needed}, '
                f'{self.transform} made {", ".join(str(each.made_with) for each in self.precomputed)}.',
                stacklevel=2,
            )
        return None
