"""Boundary scores as tables in the style of MMSegmentation's metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prettytable import PrettyTable

from .boundary import BoundarySettings
from .boundary.measure import Column, mean_of_defined


def boundary_tables(scores: dict[str, Any], class_names: Sequence[Any], settings: BoundarySettings) -> dict[str, str]:
    """Format the scores of :func:`.boundary.boundary_scores` as tables, with a row for each class and for their mean.

    Returns:
        dict[str, str]: Tables by title, without empty ones.
    """
    columns: dict[str, list[Column]] = {}
    for measure in settings.measures:
        columns.setdefault(measure.table_title, []).extend(measure.columns(scores))
    return {title: _table(found, class_names).get_string() for title, found in columns.items() if found}


def _table(columns: list[Column], class_names: Sequence[Any]) -> PrettyTable:
    table = PrettyTable(['Class', *(column.title for column in columns)])
    for name, *values in zip(class_names, *(column.values for column in columns), strict=True):
        table.add_row([name, *map(_text, values)])
    table.add_divider()
    table.add_row(['mean', *(_text(mean_of_defined(column.values)) for column in columns)])
    if any(column.excluded is not None for column in columns):
        table.add_row(['excluded near void', *(_text(column.excluded) for column in columns)])
    return table


def _text(percent: Any) -> str:
    return '' if percent is None else f'{percent:.2f}'
