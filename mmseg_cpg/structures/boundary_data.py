"""Boundary targets as a field of a data sample; MMEngine handles collation, pickling, ``.to()`` and printing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mmengine.structures import BaseDataElement
from torch import Tensor


class Targets(Protocol):
    """A dataclass of targets that depend on the label alone, e.g. :class:`~mmseg_cpg.ops.BoundaryTargets`."""

    @property
    def ignore_index(self) -> int:
        """Id of void pixels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) of the label, (B, H, W) of a batch."""

    @property
    def made_with(self) -> tuple:
        """Shape and arguments the targets were computed with. A loss uses the targets that match its own."""


def pack_boundary(targets: Mapping[str, Targets]) -> BaseDataElement:
    """Pack the targets of an image.

    Args:
        targets: The targets by field name, e.g. ``ksize3``.

    Returns:
        A data element for each name, with the tensors as data and all else, including the class, as metainfo.
    """
    return BaseDataElement(**{name: _pack(each) for name, each in targets.items()})


def unpack_boundary(boundary: BaseDataElement) -> dict[str, Targets]:
    """The inverse of :func:`pack_boundary`."""
    unpacked = {}
    for name, field in boundary.items():
        fields = dict(field.all_items())
        unpacked[name] = fields.pop('targets_type')(**fields)
    return unpacked


def _pack(targets: Targets) -> BaseDataElement:
    tensors = {name: value for name, value in vars(targets).items() if isinstance(value, Tensor)}
    metainfo = {name: value for name, value in vars(targets).items() if name not in tensors}
    return BaseDataElement(metainfo={**metainfo, 'targets_type': type(targets)}, **tensors)
