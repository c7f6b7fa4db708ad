"""Boundary scores as the tables that MMSegmentation's metrics print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from prettytable import PrettyTable

from .boundary.quality import mean_of_defined


def boundary_tables(scores: dict, class_names: Sequence[Any]) -> dict[str, str]:
    """Write the scores of :func:`.boundary.boundary_scores` as tables with a row for each class and one for their mean.

    Returns:
        dict[str, str]: Tables by title. There is none for trimaps if the scores have none.
    """
    columns = {'BIoU': scores['BIoU']}
    columns.update((f'F {tolerance_px}px', values) for tolerance_px, values in scores['F_per_class'].items())
    boundaries = _table(columns, class_names)
    boundaries.add_row(['excluded near void', *map(_text, (scores['BIoU_dropped'], *scores['F_dropped'].values()))])
    tables = {'per class results at boundaries:': boundaries.get_string()}
    columns = {f'IoU {width_px}px': values for width_px, values in scores['trimap_IoU'].items()}
    columns.update((f'Acc {width_px}px', values) for width_px, values in scores['trimap_Acc'].items())
    if columns:
        tables['per class results in trimaps:'] = _table(columns, class_names).get_string()
    return tables


def _table(columns: dict[str, np.ndarray], class_names: Sequence[Any]) -> PrettyTable:
    table = PrettyTable(['Class', *columns])
    for name, *values in zip(class_names, *columns.values(), strict=True):
        table.add_row([name, *map(_text, values)])
    table.add_divider()
    table.add_row(['mean', *(_text(mean_of_defined(values)) for values in columns.values())])
    return table


def _text(percent: Any) -> str:
    return f'{percent:.2f}'
