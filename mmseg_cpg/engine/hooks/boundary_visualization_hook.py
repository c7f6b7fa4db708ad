from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import mmcv
from mmengine import fileio
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from mmseg_cpg.ops.cpg.sobel import check_ksize
from mmseg_cpg.structures import names_by_id


@HOOKS.register_module()
class BoundaryVisualizationHook(Hook):
    """Draw predictions at boundaries during validation and testing, and pass the figures to all ``vis_backends``.

    For each selected image, it draws the errors near the label's boundary, the probability of a class and its gradient,
    and its profile along a row or column. Class and line depend on the label only, so all figures of an image show the
    same place; without a label they depend on the prediction, and there is no figure of errors. Drawing takes a few
    seconds per image. Images that cannot be drawn, such as those with eight bands, are skipped with a warning.

    Args:
        interval (int): Draw every ``interval``-th batch, as in ``SegVisualizationHook``. Defaults to 50.
        class_name (str, optional): Class to draw. Defaults to None, the one with the most boundary pixels in the image.
        ksize (int): Kernel size of the gradients, odd, in [3, 11]. Defaults to 3.
        backend_args (dict, optional): File backend of the images, as in ``LoadImageFromFile``. Defaults to None, local
            files.

    Raises:
        TypeError, ValueError: ``interval`` or ``ksize`` is invalid; before a run, the dataset has no class
            ``class_name``.
    """

    def __init__(
        self, interval: int = 50, class_name: str | None = None, ksize: int = 3, backend_args: dict | None = None
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval = interval
        self.class_name = class_name
        self.ksize = check_ksize(ksize)
        self.backend_args = backend_args
        self._warned = False

    def before_run(self, runner: Runner) -> None:
        """Check the class, so that a typo does not end a training run at its first validation."""
        if self.class_name is not None:
            names = tuple(names_by_id(runner.visualizer.dataset_meta['classes']))
            if self.class_name not in names:
                raise ValueError(f'class_name must be one of {names}, got {self.class_name!r}')

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw a batch of the validation."""
        self._draw(runner, batch_idx, outputs, 'val')

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]
    ) -> None:
        """Draw a batch of the test."""
        self._draw(runner, batch_idx, outputs, 'test')

    def _draw(self, runner: Runner, batch_idx: int, outputs: Sequence[SegDataSample], mode: str) -> None:
        if not is_main_process() or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for sample in outputs:
            try:
                self._draw_sample(runner, sample, mode)
            except Exception as error:  # a figure must not stop a training run
                if not self._warned:
                    self._warned = True
                    warnings.warn(
                        f"BoundaryVisualizationHook skips '{sample.img_path}' and other images that it cannot draw "
                        f'({type(error).__name__}: {error})',
                        stacklevel=2,
                    )

    def _draw_sample(self, runner: Runner, sample: SegDataSample, mode: str) -> None:
        # Imported here, since it needs matplotlib, which import mmseg_cpg does without.
        from mmseg_cpg.visualization import (
            Prediction,
            Scene,
            choose_line,
            draw_errors,
            draw_gradients,
            draw_profile,
            head_ignore_index,
            names_and_colors,
            render,
        )

        classes, palette = names_and_colors(runner.visualizer.dataset_meta)
        image = mmcv.imfrombytes(fileio.get(sample.img_path, backend_args=self.backend_args), channel_order='rgb')
        if image is None:
            raise ValueError('OpenCV cannot decode the image')
        label = sample.gt_sem_seg.data[0].long().cpu().numpy() if 'gt_sem_seg' in sample else None
        prediction = Prediction.from_sample('prediction', sample)
        ignore_index = head_ignore_index(runner.model)
        scene = Scene(image, label, [prediction], classes, palette, ignore_index)
        class_index = scene.main_class() if self.class_name is None else scene.classes.index(self.class_name)
        line = choose_line(scene.reference == class_index)
        figures = dict(
            gradients=draw_gradients(scene, class_index, self.ksize, line),
            profile=draw_profile(scene, class_index, line),
        )
        if label is not None:
            figures['errors'] = draw_errors(scene, line)
        for name, figure in figures.items():
            figure_name = f'{mode}_{Path(sample.img_path).stem}_{name}'
            runner.visualizer.add_image(figure_name, render(figure), runner.iter)
