"""Matplotlib figures of boundaries, errors and probabilities; :func:`render` turns them into images."""

from .painting import paint_classes, paint_masks
from .panels import render
from .pictures import (
    draw_boundaries,
    draw_changes,
    draw_comparison,
    draw_errors,
    draw_gradients,
    draw_overview,
    draw_profile,
)
from .scene import Line, Prediction, Scene, choose_line, head_ignore_index, names_and_colors

__all__ = [
    'Line',
    'Prediction',
    'Scene',
    'choose_line',
    'draw_boundaries',
    'draw_changes',
    'draw_comparison',
    'draw_errors',
    'draw_gradients',
    'draw_overview',
    'draw_profile',
    'head_ignore_index',
    'names_and_colors',
    'paint_classes',
    'paint_masks',
    'render',
]
