"""Figures of panels with pixel scales, and legends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

PANEL_INCHES = 2.7
SCALE_INCHES = 0.4
MAX_WIDTH_INCHES = 16.0
LINE_INCHES = 0.19
DPI = 100
TITLE_LETTERS = 36


class TextFigure(Figure):
    """A figure without math text, since names of classes and losses may contain dollar signs."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure."""
        for text in self.findobj(Text):
            text.set_parse_math(False)
        super().draw(renderer)


def make_panels(
    title: str, titles: Sequence[str], shape: tuple[int, int], close_ups: bool = False
) -> tuple[Figure, np.ndarray]:
    """Make an empty figure for several views of an image.

    Args:
        title (str): Title of the figure.
        titles (Sequence[str]): Titles of the panels.
        shape (tuple[int, int]): Height and width of the image, px.
        close_ups (bool): Put all panels into one row, with a square panel below each.

    Returns:
        tuple[Figure, np.ndarray]: The figure and its axes, (rows, columns).
    """
    titles = ['\n'.join(textwrap.fill(line, TITLE_LETTERS) for line in text.split('\n')) for text in titles]
    title_inches = LINE_INCHES * max(text.count('\n') + 1 for text in titles)
    stretch = min(max(shape[1] / shape[0], 0.5), 2.0) ** 0.5
    width, height = PANEL_INCHES * stretch, PANEL_INCHES / stretch
    num_columns = len(titles) if close_ups else min(len(titles), int(MAX_WIDTH_INCHES / (width + SCALE_INCHES)))
    heights = [height, PANEL_INCHES] if close_ups else [height] * -(-len(titles) // num_columns)
    size = (
        (width + SCALE_INCHES) * num_columns + 0.2,
        0.6 + sum(heights) + (SCALE_INCHES + title_inches) * len(heights),
    )
    figure = TextFigure(figsize=size, dpi=DPI, layout='constrained')
    figure.suptitle(textwrap.fill(title, int(11 * size[0])), fontsize=14)
    axes = figure.subplots(len(heights), num_columns, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, text in zip(axes.flat, titles, strict=False):
        axis.set_title(text, fontsize=11)
    if close_ups:
        axes[1, 0].set_ylabel('close-up', fontsize=11)
    return figure, axes


def show(axis: Axes, picture: np.ndarray, part: tuple[slice, slice] | None = None, **options: Any) -> AxesImage:
    """Show a picture (H, W[, 3]) or a part of it, with pixel coordinates of the whole picture."""
    rows, columns = part or (slice(0, picture.shape[0]), slice(0, picture.shape[1]))
    picture = picture[rows, columns]
    top, left = rows.start, columns.start
    extent = (left - 0.5, left + picture.shape[1] - 0.5, top + picture.shape[0] - 0.5, top - 0.5)
    axis.set_axis_on()
    axis.tick_params(labelsize=8, length=2)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(MaxNLocator(4, integer=True))
    return axis.imshow(picture, extent=extent, interpolation='nearest', **options)


def frame(axis: Axes, part: tuple[slice, slice]) -> None:
    """Draw a frame around a part of the picture."""
    rows, columns = part
    corner = (columns.start - 0.5, rows.start - 0.5)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor='black', linewidth=3))
    axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor='white', linewidth=1.2))


def add_legend(figure: Figure, entries: Iterable[tuple[str, Sequence[int]]]) -> None:
    """Add a legend of colors, RGB in [0, 255], below the panels, and enlarge the figure for it."""
    handles = [Patch(facecolor=tuple(np.array(color) / 255), edgecolor='gray', label=name) for name, color in entries]
    entry_inches = 0.7 + 0.08 * max(len(str(handle.get_label())) for handle in handles)
    num_rows = -(-len(handles) // max(1, int(figure.get_figwidth() / entry_inches)))
    num_columns = -(-len(handles) // num_rows)
    figure.set_figheight(figure.get_figheight() + 0.22 * num_rows)
    figure.legend(handles=handles, loc='outside lower center', ncols=num_columns, fontsize=10, frameon=False)


def render(figure: Figure) -> np.ndarray:
    """The figure as an RGB image, (H, W, 3) uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
