from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS

from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries, ids_in_labels
from mmseg_cpg.evaluation.boundary_tables import boundary_tables
from mmseg_cpg.structures import names_by_id, void_in_place_of_class


@METRICS.register_module()
class BoundaryMetric(BaseMetric):
    """Boundary IoU, trimap IoU and accuracy, and boundary F-score. Use it together with ``IoUMetric``.

    See :func:`.boundary_iou.count_boundary_iou`, :func:`.trimap.count_trimaps`,
    :func:`.boundary_fscore.count_boundary_fscore` and :func:`.quality.boundary_scores` for the definitions. Like
    IoUMetric, it returns percentages, rounded to two digits, and logs the scores of each class as a table:

    - ``mBIoU``, and ``BIoU_dropped``, the share of the label's bands that is excluded near void;
    - ``trimap_mIoU_5px`` and ``trimap_aAcc_5px`` for each width;
    - ``mF_3px`` and ``F_dropped_3px`` for each tolerance.

    A dataset with one class name is a binary task: its labels have the ids 0 for background and 1 for the class.

    To keep the checkpoint with the best Boundary IoU: ``CheckpointHook(save_best='mBIoU', rule='greater')``.

    Args:
        ignore_index (int): Id of void pixels in the label. Defaults to 255.
        width_px (int, optional): Width d of the bands of Boundary IoU in pixels. Defaults to None: ``width_ratio``.
        width_ratio (float): d as a fraction of the image diagonal, in (0, 1]. Cheng et al. use 0.005 for Cityscapes.
            Defaults to 0.02.
        trimap_widths_px (Sequence[int]): Widths of the trimaps in pixels; empty for no trimaps.
            Defaults to (1, 3, 5, 10, 20).
        tolerances_px (Sequence[int]): Tolerances of the boundary F-score in pixels; empty for no F-score.
            Defaults to (1, 3, 5, 9).
        average (str): 'dataset' sums over all images, as in IoUMetric; 'image' averages the scores of the images.
            Defaults to 'dataset'.
        collect_device (str): Device for collecting the results of several processes, 'cpu' or 'gpu'. Defaults to 'cpu'.
        format_only (bool): Skip the evaluation, for test data without labels. Defaults to False.
        prefix (str, optional): Prefix of the names of the results, followed by a slash. Defaults to None.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.
        ValueError: During evaluation, the prediction and label of an image differ in size or contain invalid class ids.
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
        """Count what the scores need on each image of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): With pred_sem_seg and gt_sem_seg, (1, H, W) each.
        """
        if self.format_only:
            return
        num_classes = len(names_by_id(self.dataset_meta['classes']))
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
        """Turn the counts of all images into scores, and log the scores of each class as tables.

        Args:
            results (list): Counts collected by :meth:`process`.

        Returns:
            dict[str, float]: Scores by name, as listed above.
        """
        if self.format_only:
            return {}
        scores = boundary_scores(results, self.settings)
        names = names_by_id(self.dataset_meta['classes'])
        logger = MMLogger.get_current_instance()
        missing = void_in_place_of_class(ids_in_labels(results, self.settings), len(names), self.settings.ignore_index)
        if missing:
            print_log(missing, logger, logging.WARNING)
        for title, table in boundary_tables(scores, names, self.settings).items():
            print_log(title, logger)
            print_log(f'\n{table}', logger)
        return {
            name: round(score, 2)
            for measure in self.settings.measures
            for name, score in measure.metrics(scores).items()
        }


def _to_map(tensor: torch.Tensor) -> np.ndarray:
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.squeeze(0).cpu().numpy()
