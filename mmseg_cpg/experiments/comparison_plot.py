"""The plot of a comparison of losses: differences from the baseline."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..visualization.panels import TextFigure
from .comparison import COSTS, Comparison, Measure

BETTER, WORSE, UNCLEAR = '#1a7f37', '#c62828', '0.45'
LABEL_LETTERS = 34


def draw_comparison(comparison: Comparison) -> Figure | None:
    """Draw the difference of each loss from the baseline, in a panel for each score (higher is better).

    Args:
        comparison: The comparison.

    Returns:
        A figure with dots for the mean differences, bars for their intervals and ticks for single seeds; None if there
        is nothing to compare yet. A loss without a result has a row without a dot.
    """
    shown = [losses for losses in comparison.losses if losses != comparison.baseline]
    scores = [
        measure for measure in comparison.scores if any(comparison.difference(losses, measure) for losses in shown)
    ]
    if not scores:
        return None
    size = (2.6 + 2.9 * len(scores), 2.1 + 0.62 * len(shown))
    figure = TextFigure(figsize=size, dpi=150, layout='constrained')
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, scores, strict=True):
        _draw_panel(axes, comparison, shown, measure)
    panels[0].set_yticks(range(len(shown)), [_label(comparison, losses) for losses in shown], fontsize=9)
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    seeds = f'{len(comparison.seeds)} seed{"s" if len(comparison.seeds) > 1 else ""}'
    figure.suptitle(f'Differences from {comparison.baseline}\n{comparison.name}, {seeds}', fontsize=11)
    figure.legend(handles=_legend(comparison), loc='outside lower center', ncols=4, frameon=False, fontsize=8)
    return figure


def _draw_panel(axes: Axes, comparison: Comparison, shown: list[str], measure: Measure) -> None:
    axes.axvline(0, color='black', linewidth=1)
    for row, losses in enumerate(shown):
        found = comparison.difference(losses, measure)
        if found is None:
            axes.text(0.5, row, 'no result', transform=axes.get_yaxis_transform(), ha='center', fontsize=9)
            continue
        color = UNCLEAR if not found.excludes_zero else BETTER if found.mean > 0 else WORSE
        seeds = [*comparison.differences(losses, measure).values()]
        axes.plot(seeds, [row] * len(seeds), '|', color=color, markersize=9, alpha=0.6)
        axes.errorbar(found.mean, row, xerr=found.margin, fmt='o', color=color, markersize=8, linewidth=2.5)
        axes.annotate(
            f'{found.mean:+.{measure.digits}f}',
            (found.mean, row),
            (0, 8),
            textcoords='offset points',
            ha='center',
            color=color,
            fontsize=9,
            fontweight='bold',
            bbox=dict(facecolor='white', edgecolor='none', pad=0.5),
        )
    baseline = comparison.mean(comparison.baseline, measure)
    assert baseline is not None, 'there is a difference from it'
    axes.set_title(
        f'{measure.title}\n{comparison.baseline}: {baseline.mean:.{measure.digits}f} {measure.unit}', fontsize=10
    )
    axes.set_xlabel('← worse   points   better →', fontsize=9)
    axes.tick_params(axis='y', length=0)
    axes.tick_params(axis='x', labelsize=8)
    axes.margins(x=0.12)
    axes.grid(axis='x', alpha=0.3)
    for side in ('left', 'right', 'top'):
        axes.spines[side].set_visible(False)


def _label(comparison: Comparison, losses: str) -> str:
    """The losses, with their extra cost in the last line."""
    extra = {measure.title: comparison.extra_cost(losses, measure) for measure in COSTS}
    costs = ', '.join(f'{title} {percent.text(0, "+")} %' for title, percent in extra.items() if percent)
    return '\n'.join([*textwrap.wrap(losses.replace(',', ', '), LABEL_LETTERS), *filter(None, [costs])])


def _legend(comparison: Comparison) -> list[Line2D]:
    if len(comparison.seeds) == 1:
        return [Line2D([], [], color=UNCLEAR, marker='o', linestyle='', label='one seed: no interval')]
    handles = [
        Line2D([], [], color=color, marker='o', linewidth=2.5, label=label)
        for color, label in (
            (BETTER, 'better: 95 % interval above 0'),
            (UNCLEAR, 'undecided: interval contains 0'),
            (WORSE, 'worse: interval below 0'),
        )
    ]
    return [*handles, Line2D([], [], color='0.3', marker='|', linestyle='', markersize=9, label='single seeds')]
