"""The paper's numbers against what its text says about them and against one another."""

from statistics import fmean

import pytest
from mmseg.datasets import CityscapesDataset

from mmseg_cpg.experiments import paper


def test_classes_are_those_of_mmsegmentation_in_order():
    assert CityscapesDataset.METAINFO['classes'] == paper.CLASSES


@pytest.mark.parametrize('ksize', [0, 3, 5, 7])
def test_class_iou_averages_to_the_miou_of_tables_2_and_4(ksize):
    assert len(paper.TABLE_1[ksize]) == 19
    miou = fmean(paper.TABLE_1[ksize])
    assert miou == pytest.approx(paper.TABLE_4[False, ksize].miou, abs=0.0015)
    assert miou == pytest.approx(max(paper.TABLE_2[ksize].values()) if ksize else paper.BASELINE, abs=0.005)


@pytest.mark.parametrize(('ksize', 'weighted'), [(0, 14395.02), (3, 14875.48), (5, 14960.08), (7, 14959.33)])
def test_class_iou_is_in_order(ksize, weighted):
    assert sum(place * iou for place, iou in enumerate(paper.TABLE_1[ksize], 1)) == pytest.approx(weighted)


def test_classes_of_which_the_text_says_that_they_gain_more_than_6():
    for name in ('traffic light', 'rider', 'truck'):
        index = paper.CLASSES.index(name)
        assert max(paper.TABLE_1[ksize][index] for ksize in paper.KSIZES) - paper.TABLE_1[0][index] > 6


@pytest.mark.parametrize(
    ('ksize', 'best', 'gain', 'count', 'weights', 'mious'),
    [(3, 1.0, 2.252, 11, 11.2, 863.94), (5, 8.0, 2.483, 9, 90, 709.67), (7, 5.0, 2.754, 10, 55, 792.35)],
)
def test_sweep(ksize, best, gain, count, weights, mious):
    sweep = paper.TABLE_2[ksize]
    assert (len(sweep), sum(sweep), sum(sweep.values())) == (count, pytest.approx(weights), pytest.approx(mious))
    assert best == paper.BEST_LOSS_WEIGHTS[ksize]
    assert sweep[best] - paper.BASELINE == pytest.approx(gain, abs=0.005)  # section 4.5
    assert paper.TABLE_4[False, ksize].miou - paper.TABLE_4[False, 0].miou == pytest.approx(gain)


@pytest.mark.parametrize(
    ('dataset', 'without', 'gains'),
    [
        (paper.CITYSCAPES, 230.57, [0.34, 2.25, 1.5]),
        (paper.ADE20K, 118.53, [2.9, 1.07, 1.52]),
        (paper.COCO_STUFF, 101.99, [0.92, 0.55, 0.2]),
    ],
)
def test_networks_and_data(dataset, without, gains):
    cells = [paper.TABLE_3[dataset, network] for network in paper.NETWORKS]
    assert sum(cell[0] for cell in cells) == pytest.approx(without)
    assert [after - before for before, after in cells] == pytest.approx(gains)


def test_the_kernel_of_one_cell_of_table_3_follows_from_table_2():
    (((dataset, network), ksize),) = paper.TABLE_3_KSIZES.items()
    assert paper.TABLE_3[dataset, network] == (paper.BASELINE, paper.TABLE_2[ksize][paper.BEST_LOSS_WEIGHTS[ksize]])


def test_times_add_up():
    assert len(paper.TABLE_4) == 8
    for cost in paper.TABLE_4.values():
        assert cost.forward_s + cost.backward_s == pytest.approx(cost.batch_s)
    assert paper.TABLE_4[True, 0].miou - paper.TABLE_4[False, 7].miou == pytest.approx(0.37, abs=0.005)  # section 4.7
    assert sum(cost.miou for cost in paper.TABLE_4.values()) == pytest.approx(634.525)
    assert sum(cost.forward_s for cost in paper.TABLE_4.values()) == pytest.approx(0.717)
