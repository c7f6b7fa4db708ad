"""The tables and plots of docs/evidence.md, from its record alone."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from .comparison_plot import draw_comparison
from .files import write_atomically
from .study import (
    CPG,
    DATASETS,
    NEAR_BOUNDARY,
    PRIMARY,
    TUNING_SEED,
    Dataset,
    Row,
    class_table,
    compare_seeds,
    convergence_table,
    differences_table,
    further_table,
    status,
    tuning_scores,
    tuning_table,
)
from .tables import Table

BEGIN, END = '<!-- made by tools/evidence.py report -->', '<!-- end -->'


def results(rows: list[Row]) -> str:
    """All results in the record as Markdown."""
    pictures = draw_plots(rows)
    parts = [_section(status(rows))]
    for key, dataset in DATASETS.items():
        parts += [_section(tuning_table(rows, dataset)), *_picture(pictures, f'{key}_weights', 'Scores over weights')]
        comparison = compare_seeds(rows, dataset)
        if comparison is not None:
            parts += [_section(comparison.table()), *_picture(pictures, f'{key}_seeds', 'Differences from CE')]
            parts += map(_section, (differences_table(rows, dataset), class_table(rows, dataset)))
        parts.append(_section(further_table(rows, dataset)))
        parts.append(_section(convergence_table(rows, dataset)))
    return '\n'.join(filter(None, parts))


def _section(table: Table | None) -> str:
    return '' if table is None else table.markdown().replace('## ', '### ', 1)


def _picture(pictures: dict[str, Figure], name: str, text: str) -> list[str]:
    return [f'![{text}](evidence/{name}.png)\n'] if name in pictures else []


def write_page(rows: list[Row], path: Path) -> None:
    """Write the results to the page, between its two marks."""
    head, _, rest = path.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    write_atomically(path, f'{head}{BEGIN}\n\n{results(rows)}\n{END}{tail}')


def draw_plots(rows: list[Row]) -> dict[str, Figure]:
    """Draw the scores over weights and the comparison over seeds of each dataset that has them, by file name."""
    figures: dict[str, Figure | None] = {}
    for key, dataset in DATASETS.items():
        figures[f'{key}_weights'] = draw_weights(rows, dataset)
        comparison = compare_seeds(rows, dataset)
        figures[f'{key}_seeds'] = None if comparison is None else draw_comparison(comparison)
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_weights(rows: list[Row], dataset: Dataset) -> Figure | None:
    """Draw the primary outcomes over the weight with the tuning seed, None with fewer than two weights."""
    scores = {
        competitor: found
        for competitor in (*CPG, NEAR_BOUNDARY)
        if (found := tuning_scores(rows, dataset.config, competitor))
    }
    if max(map(len, scores.values()), default=0) < 2:
        return None
    base = tuning_scores(rows, dataset.config, None)
    figure = Figure(figsize=(9, 3.6), dpi=110, layout='constrained')
    panels = figure.subplots(1, len(PRIMARY))
    for axes, measure in zip(panels, PRIMARY, strict=True):
        for competitor, found in scores.items():
            values = [float(row[measure.key]) for row in found.values()]
            axes.plot([*found], values, 'o-', label=competitor.title, markersize=4)
        for row in base.values():
            axes.axhline(float(row[measure.key]), color='black', linestyle='--', label='CE alone')
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
        axes.set_xlabel('weight')
        axes.set_title(f'{measure.title}, {measure.unit}', fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(f'{dataset.name}, seed {TUNING_SEED}: one run each', fontsize=11)
    return figure
