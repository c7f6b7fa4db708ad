"""Finds the parts of a config by the class that they build."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LOSS_NAMES = dict(
    CrossEntropyLoss='CE',
    CPGLoss='CPG',
    CrossEntropyCPGLoss='CE + CPG',
    ActiveBoundaryLoss='ABL',
    RMILoss='RMI',
    SEMEDALoss='SEMEDA',
)


def cpg_losses(model: Any) -> Iterator[tuple[Any, int]]:
    """Yield every CPGLoss in a model's config with the ``ignore_index`` of its head."""
    return losses(model, 'CPGLoss')


def losses(node: Any, name: str, ignore_index: int = 255) -> Iterator[tuple[Any, int]]:
    """Yield every loss of a class in a model's config with the ``ignore_index`` of its head.

    Args:
        node: The config of a model or a part of it, dict or list.
        name: Name of the class.
        ignore_index: Default if no head sets one.
    """
    if builds(node, name):
        yield node, ignore_index
    elif isinstance(node, dict):
        for child in node.values():
            yield from losses(child, name, node.get('ignore_index', ignore_index))
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from losses(child, name, ignore_index)


def dicts(node: Any) -> Iterator[Any]:
    """Yield every dict in a config, itself included."""
    if isinstance(node, dict):
        yield node
    if isinstance(node, (dict, list, tuple)):
        for child in node.values() if isinstance(node, dict) else node:
            yield from dicts(child)


def builds(node: Any, name: str) -> bool:
    """Whether a dict builds the class of this name, given as a string, with or without scope, or as a class."""
    return type_name(node) == name


def type_name(node: Any) -> str:
    """Name of the class that a dict builds, without scope or module; 'None' if it builds none."""
    return type_text(node).rsplit('.', 1)[-1]


def type_text(node: Any) -> str:
    """The class that a dict builds as written in the config; 'None' if it builds none."""
    kind = node.get('type') if isinstance(node, dict) else None
    return getattr(kind, '__name__', str(kind))


def class_of(node: Any, registry: Any) -> Any:
    """The class that a dict builds, given as a class or by its name in a registry; None if it does not exist."""
    kind = node.get('type')
    return registry.get(kind) if isinstance(kind, str) else kind


def final_head(model: Any) -> Any:
    """The decode head of a model's config, the last one of a cascade; None if there is none."""
    heads = model.get('decode_head')
    return heads[-1] if isinstance(heads, (list, tuple)) else heads


def losses_of(head: Any) -> list[Any]:
    """The losses in a decode head's config."""
    losses = (head or {}).get('loss_decode') or []
    return list(losses) if isinstance(losses, (list, tuple)) else [losses]


def name_losses(model: Any) -> str:
    """Name the losses of a model's (final) decode head, e.g. 'CE + CPG'."""
    names = [type_name(loss) for loss in losses_of(final_head(model))]
    return ' + '.join(LOSS_NAMES.get(name, name) for name in names)
