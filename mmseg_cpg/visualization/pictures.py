"""The figures: boundaries, errors, probability gradients, profiles, and comparisons of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmseg_cpg.evaluation.boundary import trimap_band

from .painting import (
    BOUNDARY_COLOR,
    RIGHT_COLOR,
    VOID_COLOR,
    WRONG_COLOR,
    Color,
    paint_classes,
    paint_masks,
)
from .panels import DPI, TextFigure, add_legend, frame, make_panels, show
from .scene import Line, Prediction, Scene, choose_line

BAND_PX = 3
OVERVIEW_KSIZE = 3
BOTH_WRONG_COLOR = (150, 30, 140)
LINE_COLORS = ('C3', 'C0', 'C1', 'C4', 'C5')
LABEL_LINE_COLOR = 'C2'
STRIP_LETTERS = 16
ROW_INCHES = 2.3
ERROR_ENTRIES = (('boundary, right class', RIGHT_COLOR), ('boundary, wrong class', WRONG_COLOR))


def draw_boundaries(scene: Scene, ksizes: Sequence[int], line: Line | None = None) -> Figure:
    """Draw the boundary of the CPG loss for each kernel size, in the whole image and in a close-up.

    Args:
        scene (Scene): The scene. Without a label, the boundary is that of the first prediction.
        ksizes (Sequence[int]): Kernel sizes, odd, in [3, 11].
        line (Line, optional): Line to show in the close-up. Defaults to that of :func:`choose_line`.
    """
    source = 'label' if scene.label is not None else f'prediction of {scene.predictions[0].name}'
    part = _close_up(scene, line)
    masks = [scene.boundary(ksize).mask().numpy() for ksize in ksizes]
    pictures = [scene.image, paint_classes(scene.reference, scene.palette)]
    pictures += [paint_masks(scene.image, (mask, BOUNDARY_COLOR)) for mask in masks]
    titles = ['image', source]
    titles += [f'ksize {k}: {100 * mask.mean():.1f} % of pixels' for k, mask in zip(ksizes, masks, strict=True)]
    title = f'Boundary of the {source} by kernel size'
    title += ': where CPG loss compares gradients' if scene.label is not None else ''
    figure, axes = make_panels(title, titles, scene.reference.shape, close_ups=True)
    _show_with_close_up(axes, pictures, part)
    add_legend(figure, [*_class_entries(scene, scene.reference), ('boundary', BOUNDARY_COLOR)])
    return figure


def draw_errors(scene: Scene, line: Line | None = None, width_px: int = BAND_PX) -> Figure:
    """Draw correct and wrong pixels of the predictions in a trimap band around the label's boundary.

    The percentage of wrong pixels is 100 minus BoundaryMetric's ``trimap_aAcc`` for this width.

    Args:
        scene (Scene): The scene, with a label.
        line (Line, optional): Line to show in the close-up. Defaults to that of :func:`choose_line`.
        width_px (int): Width of :func:`.trimap_band` on each side. Defaults to 3.
    """
    titles, pictures = ['image', 'label'], [scene.image, paint_classes(scene.reference, scene.palette)]
    for prediction in scene.predictions:
        picture, share = _paint_errors(scene, prediction, width_px)
        titles.append(f'{prediction.name}\n' + ('no boundary' if share is None else f'{share:.1f} % of the band wrong'))
        pictures.append(picture)
    title = f'Errors within {width_px} pixels of the boundaries in the label'
    figure, axes = make_panels(title, titles, scene.reference.shape, close_ups=True)
    _show_with_close_up(axes, pictures, _close_up(scene, line))
    add_legend(figure, [*_class_entries(scene, scene.reference), *ERROR_ENTRIES])
    return figure


def draw_gradients(scene: Scene, class_index: int, ksize: int, line: Line | None = None) -> Figure:
    """Draw the probability of a class in the label and the predictions, and the magnitude of its gradient.

    Args:
        scene (Scene): The scene, with predictions.
        class_index (int): The class.
        ksize (int): Kernel size, odd, in [3, 11].
        line (Line, optional): Line to show in the close-up. Defaults to that of :func:`choose_line`.
    """
    titles = [each.name for each in scene.predictions]
    probabilities = [each.probability[class_index] for each in scene.predictions]
    gradients = [each.gradient(class_index, ksize) for each in scene.predictions]
    if scene.label is not None:
        titles.insert(0, 'label')
        probabilities.insert(0, (scene.reference == class_index).astype(np.float32))
        gradients.insert(0, scene.label_gradient(class_index, ksize))
    title = f"Probability of '{scene.classes[class_index]}' and its gradient (Sobel-like kernels, ksize {ksize})"
    figure, axes = make_panels(title, ['image', *titles], (1, 1), close_ups=True)
    part = _close_up(scene, line, class_index)
    show(axes[0, 0], scene.image)
    frame(axes[0, 0], part)
    show(axes[1, 0], scene.image, part)
    strongest = max(float(gradient[part].max()) for gradient in gradients) or 1.0
    for row, pictures, limit, colors, meaning in (
        (0, probabilities, 1.0, 'viridis', 'probability'),
        (1, gradients, strongest, 'inferno', 'magnitude of the gradient'),
    ):
        for axis, picture in zip(axes[row, 1:], pictures, strict=True):
            artist = show(axis, picture, part, vmin=0, vmax=limit, cmap=colors)
        figure.colorbar(artist, ax=axes[row, 1:].tolist(), label=meaning, fraction=0.05, pad=0.01)
    return figure


def draw_profile(scene: Scene, class_index: int, line: Line | None = None) -> Figure:
    """Draw the probability of a class along a row or column, as in Figures 2 and 6 of the paper.

    The legend reports the mean step at the label's edges: the change of the probability from one pixel to the next, in
    the direction of the label's change. The label's own step is 1.

    Args:
        scene (Scene): The scene, with predictions.
        class_index (int): The class.
        line (Line, optional): The pixels. Defaults to those of :func:`choose_line`.
    """
    line = line or choose_line(scene.reference == class_index)
    part = line.close_up(scene.reference.shape)
    position = np.arange(line.start, line.stop)
    figure = TextFigure(figsize=(12.5, 4.9), dpi=100, layout='constrained')
    figure.suptitle(f"Probability of '{scene.classes[class_index]}' along {line}", fontsize=14)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.2))
    left.set_title('the pixels of the plot', fontsize=11)
    show(left, scene.image, part)
    ends = (line.start - 0.5, line.stop - 0.5)
    across = [line.index, line.index]
    for color, width in (('black', 4.5), ('white', 2)):
        left.plot(*((ends, across) if line.is_row else (across, ends)), color=color, linewidth=width)

    steps = None
    if scene.label is not None:
        ids = line.take(scene.label)
        true = np.where(ids == scene.ignore_index, np.nan, ids == class_index)
        steps = np.diff(true)
        right.step(position, true, where='mid', color=LABEL_LINE_COLOR, linewidth=2, label='label')
        right.fill_between(position, 0, true, step='mid', color=LABEL_LINE_COLOR, alpha=0.13)
    for prediction, color in zip(scene.predictions, LINE_COLORS * len(scene.predictions), strict=False):
        probability = line.take(prediction.probability[class_index])
        name = prediction.name
        if steps is not None and (abs(steps) == 1).any():
            name += f'\nmean step at edges {mean_step(probability, steps):.2f}'
        right.plot(position, probability, '.-', color=color, markersize=4, linewidth=1.6, label=name)
    right.set(xlim=ends, ylim=(-0.19, 1.03), xlabel='column, px' if line.is_row else 'row, px', ylabel='probability')
    right.set_yticks(np.linspace(0, 1, 6))
    right.grid(alpha=0.3)
    _show_strips(right, scene, line)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside right center', frameon=False, fontsize=10)
    shown = [line.take(source) for source in (scene.reference, *(each.label for each in scene.predictions))]
    add_legend(figure, _class_entries(scene, *shown))
    return figure


def mean_step(probability: np.ndarray, steps: np.ndarray) -> float:
    """Mean change of a probability at the label's edges, in the direction of the label's change.

    Args:
        probability (np.ndarray): Probability along a line, (n,).
        steps (np.ndarray): Differences of the one-hot label, (n - 1,): 1 and -1 at edges, 0 elsewhere, NaN at void.
    """
    edges = abs(steps) == 1
    return float((np.diff(probability) * steps)[edges].mean())


def draw_comparison(scene: Scene) -> Figure:
    """Draw the predictions side by side, and where the others differ from the first.

    Args:
        scene (Scene): The scene, with predictions.
    """
    first, *others = scene.predictions
    panels = [('image', scene.image)]
    if scene.label is not None:
        panels.append(('label', paint_classes(scene.reference, scene.palette)))
    for prediction in scene.predictions:
        panels.append((_with_accuracy(scene, prediction), paint_classes(prediction.label, scene.palette)))
    entries = _class_entries(scene, scene.reference, *(each.label for each in scene.predictions))
    question = 'where they differ' if scene.label is None else 'which one is right'
    for other in others:
        masks = _differences(scene, first, other, other.name if len(others) == 1 else 'the other')
        picture = paint_masks(scene.image, *(mask[1:] for mask in masks))
        panels.append((f'{first.name} or {other.name}:\n{question}', picture))
        entries += [(name, color) for name, _, color in masks if (name, color) not in entries]
    titles, pictures = zip(*panels, strict=True)
    title = ' against '.join(each.name for each in scene.predictions)
    figure, axes = make_panels(title, titles, scene.reference.shape)
    for axis, picture in zip(axes.flat, pictures, strict=False):
        show(axis, picture)
    add_legend(figure, entries)
    return figure


def draw_changes(scene: Scene, line: Line | None = None) -> Figure:
    """Draw the predictions, and in a close-up the errors: of the first, and those that the others correct or add.

    Image and label are left out, so that the figure can be published where they may not be.

    Args:
        scene (Scene): The scene, with a label and several predictions.
        line (Line, optional): Line to show in the close-up. Defaults to that of :func:`choose_line`.
    """
    first = scene.predictions[0]
    titles = [_with_accuracy(scene, prediction) for prediction in scene.predictions]
    figure, axes = make_panels('Predictions, and their errors', titles, scene.reference.shape, close_ups=True)
    blank, part = np.zeros_like(scene.image), _close_up(scene, line)
    for upper, lower, prediction in zip(*axes, scene.predictions, strict=True):
        show(upper, paint_classes(prediction.label, scene.palette))
        frame(upper, part)
        masks = _differences(scene, first, prediction, prediction.name)
        show(lower, paint_masks(blank, *(mask[1:] for mask in masks)), part)
    axes[1, 0].set_ylabel('errors, close-up', fontsize=11)
    entries = _class_entries(scene, *(prediction.label for prediction in scene.predictions))
    entries += [('wrong', BOTH_WRONG_COLOR)]
    entries += [(f'wrong, {first.name} right', WRONG_COLOR), (f'right, {first.name} wrong', RIGHT_COLOR)]
    add_legend(figure, entries)
    return figure


def draw_overview(scenes: Sequence[Scene], title: str, headings: Sequence[str]) -> Figure:
    """Draw a row for each image: the label, its boundary, and the predictions with their errors near it.

    Args:
        scenes (Sequence[Scene]): The scenes, with labels and with predictions of the same models.
        title (str): Title of the figure.
        headings (Sequence[str]): Text above the predictions of each model.
    """
    titles = ['image', 'label', f'boundary of the label,\nksize {OVERVIEW_KSIZE}', *headings]
    size = (ROW_INCHES * len(titles), ROW_INCHES * len(scenes) + 1)
    figure = TextFigure(figsize=size, dpi=DPI, layout='constrained')
    figure.suptitle(title, fontsize=14)
    axes = figure.subplots(len(scenes), len(titles), squeeze=False)
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(text, fontsize=12)
    labels: list[np.ndarray] = []
    for row, scene in zip(axes, scenes, strict=True):
        maps = [scene.reference, *(prediction.label for prediction in scene.predictions)]
        labels += maps
        label, *predictions = (paint_classes(each, scene.palette) for each in maps)
        boundary = paint_masks(scene.image, (scene.boundary(OVERVIEW_KSIZE).mask().numpy(), BOUNDARY_COLOR))
        for axis, panel in zip(row, [scene.image, label, boundary, *predictions], strict=True):
            show(axis, panel)
            axis.set(xticks=[], yticks=[])
        for axis, prediction in zip(row[3:], scene.predictions, strict=True):
            _, share = _paint_errors(scene, prediction, BAND_PX)
            text = 'no boundary' if share is None else f'near boundary: {share:.0f} % wrong'
            box = dict(facecolor='black', edgecolor='none', alpha=0.6, pad=2)
            axis.text(0.03, 0.04, text, transform=axis.transAxes, color='white', fontsize=8.5, bbox=box)
    add_legend(figure, [*_class_entries(scenes[0], *labels), ('boundary', BOUNDARY_COLOR)])
    return figure


def _paint_errors(scene: Scene, prediction: Prediction, width_px: int) -> tuple[np.ndarray, float | None]:
    """Correct and wrong pixels near the label's boundary as a picture, and the percentage of wrong ones or None."""
    assert scene.label is not None, 'errors need a label'
    band = trimap_band(scene.label.astype(np.int32), width_px, scene.ignore_index)
    wrong = band & (prediction.label != scene.label)
    picture = paint_masks(scene.image, (band, RIGHT_COLOR), (wrong, WRONG_COLOR))
    return picture, 100 * wrong.sum() / band.sum() if band.any() else None


def _differences(
    scene: Scene, first: Prediction, other: Prediction, other_name: str
) -> list[tuple[str, np.ndarray, Color]]:
    """Where two predictions differ or both are wrong: names, masks and colors."""
    if scene.label is None:
        return [('different classes', first.label != other.label, BOUNDARY_COLOR)]
    labeled = scene.label != scene.ignore_index
    wrong, other_wrong = (labeled & (each.label != scene.label) for each in (first, other))
    return [
        ('both wrong', wrong & other_wrong, BOTH_WRONG_COLOR),
        (f'only {first.name} right', ~wrong & other_wrong, WRONG_COLOR),
        (f'only {other_name} right', wrong & ~other_wrong, RIGHT_COLOR),
    ]


def _with_accuracy(scene: Scene, prediction: Prediction) -> str:
    labeled = None if scene.label is None else scene.label != scene.ignore_index
    if labeled is None or not labeled.any():
        return prediction.name
    right = (prediction.label == scene.label)[labeled].mean()
    return f'{prediction.name}\n{100 * right:.1f} % of pixels right'


def _close_up(scene: Scene, line: Line | None, class_index: int | None = None) -> tuple[slice, slice]:
    if line is None:
        line = choose_line(scene.reference == (scene.main_class() if class_index is None else class_index))
    return line.close_up(scene.reference.shape)


def _show_with_close_up(axes: np.ndarray, pictures: Sequence[np.ndarray], part: tuple[slice, slice]) -> None:
    """Show pictures in the first row, and a part of each in the second."""
    for upper, lower, picture in zip(*axes, pictures, strict=True):
        show(upper, picture)
        frame(upper, part)
        show(lower, picture, part)


def _show_strips(axis: Axes, scene: Scene, line: Line) -> None:
    """Show strips of the classes along the line below its plot: the label, then each prediction."""
    sources = [('label', scene.reference, LABEL_LINE_COLOR)] if scene.label is not None else []
    for prediction, color in zip(scene.predictions, LINE_COLORS * len(scene.predictions), strict=False):
        sources.append((prediction.name, prediction.label, color))
    height = 0.13 / len(sources)
    for row, (name, label, color) in enumerate(sources):
        top = -0.04 - row * height
        picture = paint_classes(line.take(label)[None], scene.palette)
        extent = (line.start - 0.5, line.stop - 0.5, top - 0.85 * height, top)
        axis.imshow(picture, extent=extent, aspect='auto', interpolation='nearest')
        name = name if len(name) <= STRIP_LETTERS else f'{name[: STRIP_LETTERS - 1]}…'
        place: dict[str, Any] = dict(xytext=(3, 0), textcoords='offset points', va='center', annotation_clip=False)
        axis.annotate(name, (line.stop - 0.5, top - height / 2), color=color, fontsize=7, **place)


def _class_entries(scene: Scene, *labels: np.ndarray) -> list[tuple[str, Sequence[int]]]:
    """Names and colors of the classes in label maps, void last."""
    ids = np.unique(np.concatenate([np.unique(label) for label in labels]))
    entries = [(scene.classes[each], scene.palette[each]) for each in ids if 0 <= each < len(scene.classes)]
    has_void = any(not 0 <= each < len(scene.classes) for each in ids)
    return [*entries, ('void', VOID_COLOR)] if has_void else entries
