"""Boundary targets as a field of a data sample: collation, pickling, ``.to()`` and printing are MMEngine's."""

from __future__ import annotations

from collections.abc import Iterable

from mmengine.structures import BaseDataElement

from mmseg_cpg.ops import BoundaryTargets

_TENSORS = ('pixel', 'category', 'gradient')


def pack_boundary(targets: Iterable[BoundaryTargets]) -> BaseDataElement:
    """One image's targets, one field ``ksize3``, ``ksize5``, ... for each kernel size.

    A field holds the tensors of :class:`~mmseg_cpg.ops.BoundaryTargets` as data and the rest as metainfo.
    """
    return BaseDataElement(**{f'ksize{each.ksize}': _pack(each) for each in targets})


def unpack_boundary(boundary: BaseDataElement) -> dict[str, BoundaryTargets]:
    """The targets that :func:`pack_boundary` was given, by the name of their field."""
    return {name: BoundaryTargets(**dict(field.all_items())) for name, field in boundary.items()}


def _pack(targets: BoundaryTargets) -> BaseDataElement:
    attributes = vars(targets)
    metainfo = {name: value for name, value in attributes.items() if name not in _TENSORS}
    return BaseDataElement(metainfo=metainfo, **{name: attributes[name] for name in _TENSORS})
