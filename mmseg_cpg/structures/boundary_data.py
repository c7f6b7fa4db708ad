"""Boundary targets as a field of a data sample: collation, pickling, ``.to()`` and printing are MMEngine's."""

from __future__ import annotations

from collections.abc import Iterable

from mmengine.structures import BaseDataElement
from torch import Tensor

from mmseg_cpg.ops import BoundaryDistance, BoundaryTargets


def pack_boundary(targets: Iterable[BoundaryTargets | BoundaryDistance]) -> BaseDataElement:
    """One image's targets: a field ``ksize3``, ``ksize5``, ... for each kernel size, and ``distance``.

    A field holds the tensors of :class:`~mmseg_cpg.ops.BoundaryTargets` or :class:`~mmseg_cpg.ops.BoundaryDistance` as
    data and the rest as metainfo.
    """
    return BaseDataElement(**{_name(each): _pack(each) for each in targets})


def unpack_boundary(boundary: BaseDataElement) -> dict[str, BoundaryTargets | BoundaryDistance]:
    """The targets that :func:`pack_boundary` was given, by the name of their field."""
    return {
        name: (BoundaryDistance if name == 'distance' else BoundaryTargets)(**dict(field.all_items()))
        for name, field in boundary.items()
    }


def _name(targets: BoundaryTargets | BoundaryDistance) -> str:
    return 'distance' if isinstance(targets, BoundaryDistance) else f'ksize{targets.ksize}'


def _pack(targets: BoundaryTargets | BoundaryDistance) -> BaseDataElement:
    tensors = {name: value for name, value in vars(targets).items() if isinstance(value, Tensor)}
    metainfo = {name: value for name, value in vars(targets).items() if name not in tensors}
    return BaseDataElement(metainfo=metainfo, **tensors)
