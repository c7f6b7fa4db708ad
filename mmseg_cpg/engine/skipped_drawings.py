"""Keeps a run going when MMSegmentation cannot draw a prediction."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook


def skip_failed_drawings(runner: Runner) -> None:
    """Make ``SegVisualizationHook`` skip images that it cannot draw, such as those with eight bands, with one warning.

    Otherwise such an image ends the run.
    """
    for hook in runner.hooks:
        if isinstance(hook, SegVisualizationHook):
            hook.after_val_iter = _skipping(hook.after_val_iter)
            hook.after_test_iter = _skipping(hook.after_test_iter)


def _skipping(draw: Callable[..., None]) -> Callable[..., None]:
    warned = False

    @functools.wraps(draw)
    def draw_or_skip(runner: Runner, *args: Any, **kwargs: Any) -> None:
        nonlocal warned
        try:
            draw(runner, *args, **kwargs)
        except Exception as error:  # depends on the image and on the backends of the visualizer
            if not warned:
                warned = True
                reason = str(error).strip().partition('\n')[0]
                runner.logger.warning(
                    f'SegVisualizationHook skips images that it cannot draw ({type(error).__name__}: {reason})'
                )

    return draw_or_skip
