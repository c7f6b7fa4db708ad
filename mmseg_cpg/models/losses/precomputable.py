from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from mmseg_cpg.structures import Targets

from .base import SegmentationLoss


class PrecomputableLoss(SegmentationLoss):
    """A loss whose targets depend on the label alone, so that a transform can compute them in the data loader.

    ``BoundaryTargetHook`` passes the targets to every such loss, and ``precompute_boundaries`` adds the transform to a
    config. A subclass declares its targets in the attributes below. It uses the targets that :meth:`_take_precomputed`
    returns; if that is None, it computes them itself, with the same result.

    Attributes:
        family: What log messages call these losses, in the plural.
        target_type: Class of the targets.
        stack_targets: Makes a batch's targets from those of its images.
        transform: The transform that computes them, as ``type`` in a config.
        precomputed: Targets of the next batch. ``BoundaryTargetHook`` sets and clears them.
    """

    family: ClassVar[str]
    target_type: ClassVar[type]
    stack_targets: ClassVar[Callable[..., Any]]
    transform: ClassVar[str]

    def __init__(
        self, loss_weight: float, loss_name: str, reduction: str, class_weight: list[float] | str | None = None
    ) -> None:
        super().__init__(loss_weight, loss_name, reduction, class_weight)
        self.precomputed: tuple[Targets, ...] = ()
        self._warned_mismatch = False

    @classmethod
    @abstractmethod
    def transform_options(cls, losses: Sequence[tuple[dict, int]]) -> dict[str, Any]:
        """Arguments of the transform, without those of padding, for all losses of this family in a model.

        Args:
            losses: Configs of the losses, each with the ``ignore_index`` of its head.

        Raises:
            ValueError: One transform cannot serve all of them.
        """

    @classmethod
    def uses_targets(cls, options: Mapping[str, Any]) -> bool:
        """Whether a loss with these options uses precomputed targets.

        Args:
            options: The config of a loss, or the attributes of one that is built.
        """
        return True

    @classmethod
    def describe_targets(cls, targets: Sequence[Any]) -> str:
        """Describe the targets for the log."""
        return 'precomputed boundaries'

    @property
    def title(self) -> str:
        """What log messages and warnings call this loss."""
        return type(self).__name__

    def _take_precomputed(self, needed: tuple, names: str) -> Any:
        """The precomputed targets whose ``made_with`` is ``needed``, else None. Warns once if there are others."""
        for targets in self.precomputed:
            if targets.made_with == needed:
                return targets
        if self.precomputed and not self._warned_mismatch:
            self._warned_mismatch = True
            warnings.warn(
                f'{self.title} ignores its precomputed targets: it needs ({names}) = {needed}, but '
                f'{self.transform} computed {", ".join(str(each.made_with) for each in self.precomputed)}.',
                stacklevel=2,
            )
        return None


def only(values: set, names: str) -> Any:
    """The one value that all losses of a family share.

    Raises:
        ValueError: They differ.
    """
    if len(values) > 1:
        raise ValueError(f'precomputing boundaries needs one {names}, got {", ".join(map(str, sorted(values)))}')
    (value,) = values
    return value
