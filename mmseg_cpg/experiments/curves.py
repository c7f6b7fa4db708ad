"""Training curves of several runs: losses, the share of the CPG loss, and validation."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..config_nodes import cpg_losses
from ..visualization.panels import TextFigure

STYLES: tuple[Any, ...] = ('-', '--', ':', '-.')


class Curves(NamedTuple):
    """The log of a run.

    Attributes:
        name: Name of the run in the legend.
        scalars: Logged values by iteration, see :func:`.work_dirs.read_scalars`.
    """

    name: str
    scalars: dict[str, dict[int, float]]


class Panel(NamedTuple):
    """A panel of the plot: its title, the names in the log, and whether values are multiplied by 100."""

    title: str
    keys: list[str]
    in_percent: bool = False


def default_panels(curves: list[Curves], cfgs: list[Any]) -> list[Panel]:
    """The panels for training runs with CPG loss.

    Args:
        curves: The runs.
        cfgs: Their configs.

    Returns:
        Total loss, weighted CPG losses, their share of the total, the share of boundary pixels, and mIoU, without
        panels that no run has logged.
    """
    logged = sorted({key for curve in curves for key in curve.scalars})
    names = {loss.get('loss_name', 'loss_cpg') for cfg in cfgs for loss, _ in cpg_losses(cfg.model)}
    panels = [
        Panel('total loss', ['loss']),
        Panel('CPG loss, times λ', [key for key in logged if key.split('.')[-1] in names]),
        Panel('CPG loss, % of the total loss', ['cpg_share'], True),
        Panel('boundary, % of the pixels', [key for key in logged if key.startswith('boundary_share_')], True),
        Panel('mIoU in validation, %', ['mIoU']),
    ]
    return [panel for panel in panels if set(panel.keys) & set(logged)]


def plot_curves(curves: list[Curves], panels: list[Panel]) -> Figure:
    """Plot runs in side-by-side panels, each run in its own color."""
    num_columns = min(len(panels), 3)
    num_rows = -(-len(panels) // num_columns)
    size = (max(4.6 * num_columns, 7), 3.4 * num_rows + 0.3 + 0.25 * len(curves))
    figure = TextFigure(figsize=size, dpi=100, layout='constrained')
    axes = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, panels, strict=False):
        for number, curve in enumerate(curves):
            for key, style in zip(panel.keys, STYLES * len(panel.keys), strict=False):
                points = sorted(curve.scalars.get(key, {}).items())
                factor = 100 if panel.in_percent else 1
                axis.plot(
                    [step for step, _ in points],
                    [factor * value for _, value in points],
                    style,
                    marker='.' if len(points) < 30 else None,
                    color=f'C{number % 10}',
                )
        if len(panel.keys) > 1:
            handles = [
                Line2D([], [], color='0.3', linestyle=style, label=key)
                for key, style in zip(panel.keys, STYLES * len(panel.keys), strict=False)
            ]
            axis.legend(handles=handles, fontsize=8)
        axis.set_title(panel.title, fontsize=11)
        axis.set_xlabel('iteration', fontsize=9)
        axis.tick_params(labelsize=8, labelbottom=True)
        if panel.in_percent:
            axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    handles = [Line2D([], [], color=f'C{number % 10}', linewidth=3) for number in range(len(curves))]
    figure.legend(handles, [curve.name for curve in curves], loc='outside lower center', frameon=False)
    return figure
