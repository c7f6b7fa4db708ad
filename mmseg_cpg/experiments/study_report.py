"""The tables and plots of docs/evidence.md, from its record alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from matplotlib.figure import Figure

from .comparison_plot import draw_comparison
from .files import write_atomically
from .study import (
    CPG,
    DATASETS,
    NEAR_BOUNDARY,
    PRIMARY,
    SEEDS,
    TUNING_SEED,
    UNWEIGHTED,
    Dataset,
    Row,
    best_cpg,
    candidates,
    rows_of,
    tuning_row,
)
from .study_tables import (
    class_table,
    compare_seeds,
    convergence_table,
    differences_table,
    further_table,
    seeds_table,
    split,
    status_table,
    tuning_table,
)
from .tables import Table
from .work_dirs import FINISHED

FOLDER = 'evidence'  # of the plots
BEGIN, END = '<!-- made by tools/evidence.py report -->', '<!-- end -->'


def results(rows: list[Row], plots: Collection[str]) -> str:
    """All results in the record as Markdown, with the plots of these names."""
    parts: list[str] = []
    for key, dataset in DATASETS.items():
        parts += [
            _section(differences_table(rows, dataset)),
            *_picture(plots, f'{key}_seeds', 'Differences from CE'),
        ]
        parts += map(_section, (seeds_table(rows, dataset), class_table(rows, dataset), further_table(rows, dataset)))
        parts += [_section(tuning_table(rows, dataset)), *_picture(plots, f'{key}_weights', 'Scores over weights')]
        parts.append(_section(convergence_table(rows, dataset)))
        parts += _picture(plots, f'{key}_convergence', 'Scores in the last third of the iterations')
    return '\n'.join(filter(None, [*parts, _section(status_table(rows))]))


def _section(table: Table | None) -> str:
    return '' if table is None else table.markdown().replace('## ', '### ', 1)


def _picture(plots: Collection[str], name: str, text: str) -> list[str]:
    return [f'![{text}]({FOLDER}/{name}.png)\n'] if name in plots else []


def write_page(rows: list[Row], path: Path) -> None:
    """Write the results to the page, between its two marks, and the plots to the folder ``evidence`` beside it."""
    plots = draw_plots(rows)
    for name, figure in plots.items():
        figure.savefig(path.parent / FOLDER / f'{name}.png')
    head, _, rest = path.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    write_atomically(path, f'{head}{BEGIN}\n\n{results(rows, plots)}\n{END}{tail}')


def draw_plots(rows: list[Row]) -> dict[str, Figure]:
    """Draw the scores over weights and the comparison over seeds of each dataset that has them, by file name."""
    figures: dict[str, Figure | None] = {}
    for key, dataset in DATASETS.items():
        figures[f'{key}_weights'] = draw_weights(rows, dataset)
        comparison = compare_seeds(rows, dataset)
        figures[f'{key}_seeds'] = (
            None if comparison is None else draw_comparison(comparison._replace(scores=[*PRIMARY]))
        )
        figures[f'{key}_convergence'] = draw_convergence(rows, dataset)
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_weights(rows: list[Row], dataset: Dataset) -> Figure | None:
    """Draw the primary outcomes over the weight with the tuning seed, None with fewer than two weights."""
    scores: dict[str, dict[float, Row]] = {}
    for competitor in (*CPG, NEAR_BOUNDARY, UNWEIGHTED):
        tuned = [tuning_row(rows, dataset.config, losses) for losses in candidates(rows, dataset.config, competitor)]
        found = [row for row in tuned if row and row['state'] == FINISHED]
        if found:
            scores[competitor.title] = {float(split(row['losses'])[1]): row for row in found}
    if max(map(len, scores.values()), default=0) < 2:
        return None
    figure = Figure(figsize=(9, 3.6), dpi=110, layout='constrained')
    panels = figure.subplots(1, len(PRIMARY))
    baseline = [row for row in rows_of(rows, dataset.config, SEEDS) if row['losses'] == 'base']
    for axes, measure in zip(panels, PRIMARY, strict=True):
        for title, by_weight in scores.items():
            values = [float(row[measure.key]) for row in by_weight.values()]
            axes.plot([*by_weight], values, 'o-', label=title, markersize=4)
        values = [float(row[measure.key]) for row in baseline if row['state'] == FINISHED]
        if values:
            axes.axhspan(min(values), max(values), color='black', alpha=0.12, linewidth=0, label='CE, seeds 0 to 4')
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
        axes.set_xlabel('weight')
        axes.set_title(f'{measure.title}, {measure.unit}', fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(f'{dataset.name}, seed {TUNING_SEED}: one run each', fontsize=11)
    return figure


def draw_convergence(rows: list[Row], dataset: Dataset) -> Figure | None:
    """Draw the primary outcomes over the last third of the iterations for CE and the best CPG, None without any."""
    found = [
        row for row in rows if row['config'] == dataset.config and int(row['seed']) in SEEDS and row['validations']
    ]
    if not found:
        return None
    figure = Figure(figsize=(9, 3.6), dpi=110, layout='constrained')
    panels = figure.subplots(1, len(PRIMARY))
    _, cpg = best_cpg(rows, dataset.config) or (None, None)
    for losses, color, name in (('base', 'black', 'CE'), (cpg, 'tab:red', 'CE + best CPG')):
        curves = [json.loads(row['validations']) for row in found if row['losses'] == losses]
        for number, curve in enumerate(curves):
            iterations, *scores = zip(*curve, strict=True)
            for axes, values in zip(panels, scores, strict=True):
                axes.plot(iterations, values, 'o-', color=color, label='' if number else name, markersize=4, alpha=0.7)
                axes.set_xticks(iterations)
    for axes, measure in zip(panels, PRIMARY, strict=True):
        axes.set_xlabel('iteration')
        axes.set_title(f'{measure.title}, {measure.unit}', fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(f'{dataset.name}: the last third of the training, one line per seed', fontsize=11)
    return figure
