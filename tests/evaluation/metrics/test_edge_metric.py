import numpy as np
import pytest
import torch
from mmseg.registry import METRICS

import mmseg_cpg  # noqa: F401
from tests.inputs import blobs
from tests.oracles import semeda_loss as oracle

NUM_CLASSES = 3


def samples(void=0.02, ignore_index=255):
    label = blobs((2, 14, 15), NUM_CLASSES, void)
    percent = torch.randint(100, (2, NUM_CLASSES, 14, 15), generator=torch.Generator().manual_seed(0))
    edges, _ = oracle.semantic_edges(label.numpy(), NUM_CLASSES)
    percent = torch.where(torch.from_numpy(edges), percent.clamp(min=40), percent // 2).to(torch.uint8)
    label = label.where(label != 255, ignore_index)
    return (
        label,
        percent,
        [
            dict(gt_sem_seg=dict(data=one[None]), pred_edge=dict(data=other))
            for one, other in zip(label, percent, strict=True)
        ],
    )


def evaluate(data_samples, **options):
    metric = METRICS.build(dict(type='EdgeMetric', **options))
    for sample in data_samples:
        metric.process({}, [sample])
    return metric.compute_metrics(metric.results)


def best_f(found, edges):
    """(F, precision, recall, threshold) with the highest F, by trying all thresholds."""
    best = (0.0, 0.0, 0.0, 0.0)
    for threshold in range(100):
        hits = (found >= threshold) & edges
        marked = (found >= threshold).sum()
        if hits.any():
            precision, recall = hits.sum() / marked, hits.sum() / edges.sum()
            f_score = 2 * precision * recall / (precision + recall)
            if f_score > best[0]:
                best = (f_score, precision, recall, threshold / 100)
    return best


@pytest.mark.parametrize('ignore_index', [255, -1])
def test_scores_are_those_of_trying_all_thresholds(ignore_index):
    label, percent, data_samples = samples(ignore_index=ignore_index)
    edges, counted = oracle.semantic_edges(label.numpy(), NUM_CLASSES, ignore_index)
    percent, edges = (np.moveaxis(each, 1, 0)[:, counted] for each in (percent.numpy(), edges))
    scores = evaluate(data_samples, ignore_index=ignore_index)
    expected = best_f(percent, edges)
    names = ('edge_F', 'edge_precision', 'edge_recall', 'edge_threshold')
    assert 50 < scores['edge_F'] < 100
    for name, value in zip(names, expected, strict=True):
        assert scores[name] == pytest.approx(100 * value, abs=0.006)
    mean = np.mean([best_f(*each)[0] for each in zip(percent, edges, strict=True)])
    assert scores['edge_mF'] == pytest.approx(100 * mean, abs=0.006)


def test_a_class_without_edges_is_left_out_of_the_mean():
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    label[:, 4:] = 1
    percent = torch.zeros(NUM_CLASSES, 8, 8, dtype=torch.uint8)
    percent[:2, 3:5] = 99
    scores = evaluate([dict(gt_sem_seg=dict(data=label), pred_edge=dict(data=percent))])
    assert scores['edge_F'] == scores['edge_mF'] == 100
