from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS

from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries
from mmseg_cpg.evaluation.boundary_tables import boundary_tables


@METRICS.register_module()
class BoundaryMetric(BaseMetric):
    """Quality at boundaries: Boundary IoU, trimap IoU and accuracy, boundary F-score. Use it with ``IoUMetric``.

    ``mmseg_cpg/evaluation/boundary`` defines each of them: see :func:`.boundary_iou.count_boundary_iou`,
    :func:`.trimap.count_trimaps`, :func:`.boundary_fscore.count_boundary_fscore` and :func:`.quality.boundary_scores`.
    Like IoUMetric it returns percentages, rounded to two digits, and logs those of each class as a table:

    - ``mBIoU``, and ``BIoU_dropped``, how much of the label's bands is left out because void is near;
    - ``trimap_mIoU_5px`` and ``trimap_aAcc_5px`` for each width;
    - ``mF_3px`` and ``F_dropped_3px`` for each tolerance.

    A dataset with one class name is a binary task: its labels have the background, 0, and the class, 1.

    To keep the checkpoint with the best Boundary IoU: ``CheckpointHook(save_best='mBIoU', rule='greater')``.

    Args:
        ignore_index (int): Void in the label. Defaults to 255.
        width_px (int, optional): Width d of the bands of Boundary IoU in pixels. Defaults to None: ``width_ratio``.
        width_ratio (float): d as a share of the image's diagonal, in (0, 1]. Cheng et al. use 0.005 for Cityscapes.
            Defaults to 0.02.
        trimap_widths_px (Sequence[int]): Widths of the trimaps in pixels, none to leave them out.
            Defaults to (1, 3, 5, 10, 20).
        tolerances_px (Sequence[int]): Tolerances of the boundary F-score in pixels, none to leave it out.
            Defaults to (1, 3, 5, 9).
        average (str): 'dataset' sums over all images, as IoUMetric does, 'image' takes the mean of the images' scores.
            Defaults to 'dataset'.
        collect_device (str): Where results of several processes are collected, 'cpu' or 'gpu'. Defaults to 'cpu'.
        format_only (bool): Evaluate nothing, for test data without labels, of which IoUMetric saves the predictions.
            Defaults to False.
        prefix (str, optional): What precedes the names of the results, with a slash. Defaults to None.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.
        ValueError: While evaluating: an image's prediction and label differ in size or contain invalid class ids.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        width_px: int | None = None,
        width_ratio: float = 0.02,
        trimap_widths_px: Sequence[int] = (1, 3, 5, 10, 20),
        tolerances_px: Sequence[int] = (1, 3, 5, 9),
        average: str = 'dataset',
        collect_device: str = 'cpu',
        format_only: bool = False,
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.settings = BoundarySettings(ignore_index, width_px, width_ratio, trimap_widths_px, tolerances_px, average)
        self.format_only = format_only

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count on each image of a batch what the scores need.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): With pred_sem_seg and gt_sem_seg, (1, H, W) each.
        """
        if self.format_only:
            return
        num_classes = len(self._class_names())
        for sample in data_samples:
            if 'gt_sem_seg' not in sample:
                raise ValueError(
                    f"image '{sample.get('img_path')}' has no label: BoundaryMetric needs one, or format_only=True"
                )
            pred, label = (_to_map(sample[field]['data']) for field in ('pred_sem_seg', 'gt_sem_seg'))
            try:
                self.results.append(count_boundaries(pred, label, num_classes, self.settings))
            except ValueError as error:
                raise ValueError(f"image '{sample.get('img_path')}': {error}") from error

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Turn the counts of all images into scores, and log the table of the classes.

        Args:
            results (list): What :meth:`process` collected.

        Returns:
            dict[str, float]: The scores by name, as listed above.
        """
        if self.format_only:
            return {}
        scores = boundary_scores(results, self.settings)
        logger = MMLogger.get_current_instance()
        for title, table in boundary_tables(scores, self._class_names()).items():
            print_log(title, logger)
            print_log(f'\n{table}', logger)
        metrics = {name: scores[name] for name in ('mBIoU', 'BIoU_dropped')}
        for name, logged in (('trimap_mIoU', None), ('trimap_aAcc', None), ('F', 'mF'), ('F_dropped', None)):
            metrics.update((f'{logged or name}_{size_px}px', score) for size_px, score in scores[name].items())
        return {name: round(score, 2) for name, score in metrics.items()}

    def _class_names(self) -> Sequence[str]:
        classes = self.dataset_meta['classes']
        # The one class of a binary task is class 1, as in its labels and in predictions of one channel.
        return classes if len(classes) > 1 else ('background', *classes)


def _to_map(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return tensor.squeeze(0).cpu().numpy()
