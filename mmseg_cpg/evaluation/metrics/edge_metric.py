from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from mmseg_cpg.ops.semantic_edges import semantic_edges


@METRICS.register_module()
class EdgeMetric(BaseMetric):
    """Precision, recall and F-score of the semantic edges of an :class:`~mmseg_cpg.EdgeNetwork`, in percent.

    ``edge_F`` is the F-score at the best threshold for the whole dataset (ODS, as is usual for edges), which is
    ``edge_threshold``, with ``edge_precision`` and ``edge_recall`` at this threshold; ``edge_mF`` is the mean of the
    best F-scores of all classes with edges. Pixels match exactly, without a tolerance.

    Args:
        ignore_index (int): Id of void pixels in the label. Defaults to 255.
        collect_device (str): Device for collecting the results of several processes, 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the names of the results, followed by a slash. Defaults to None.
    """

    def __init__(self, ignore_index: int = 255, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count edge pixels and other pixels for each class and each percent of probability.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): With pred_edge ((C, H, W) uint8, in percent) and gt_sem_seg.
        """
        for sample in data_samples:
            percent = sample['pred_edge']['data']
            label = sample['gt_sem_seg']['data']
            edges, valid = semantic_edges(label, len(percent), ignore_index=self.ignore_index)
            edges, others = edges[0], valid & ~edges[0]
            counts = [
                torch.stack([each[mask].bincount(minlength=100) for each, mask in zip(percent, masks, strict=True)])
                for masks in (edges, others)
            ]
            self.results.append(torch.stack(counts).cpu())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Turn the counts of all images into scores.

        Args:
            results (list): (2, C, 100) of each image: edges and other pixels by class and percent.

        Returns:
            dict[str, float]: Scores by name, as listed above.
        """
        # Found and false edges by class and threshold: pixels with at least this probability.
        found, false = sum(results).double().flip(2).cumsum(2).flip(2)
        all_edges = found[:, :1]
        class_f = _f_score(found, false, all_edges)[all_edges[:, 0] > 0].amax(1)
        found, false, all_edges = found.sum(0), false.sum(0), all_edges.sum()
        scores = _f_score(found, false, all_edges)
        best = scores.argmax()
        metrics = dict(
            edge_F=scores[best],
            edge_mF=class_f.mean(),
            edge_precision=found[best] / (found[best] + false[best]),
            edge_recall=found[best] / all_edges,
            edge_threshold=best / 100,
        )
        return {name: round(100 * value.item(), 2) for name, value in metrics.items()}


def _f_score(found: torch.Tensor, false: torch.Tensor, all_edges: torch.Tensor) -> torch.Tensor:
    return 2 * found / (found + false + all_edges).clamp(min=1)
