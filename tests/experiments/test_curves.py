import numpy as np
from matplotlib.colors import to_hex
from mmengine.config import Config

from mmseg_cpg.experiments.curves import Curves, Panel, default_panels, plot_curves

BASELINE = Curves('baseline', {'loss': {10: 3.0, 20: 2.0}, 'mIoU': {20: 40.0}})
CPG = Curves(
    'cpg',
    {
        'loss': {20: 4.0, 10: 5.0},
        'decode.loss_cpg': {10: 2.0, 20: 1.0},
        'decode.acc_seg': {10: 90.0, 20: 91.0},
        'cpg_share': {10: 0.4, 20: 0.25},
        'boundary_share_ksize3': {10: 0.08, 20: 0.1},
        'boundary_share_ksize7': {10: 0.2, 20: 0.3},
    },
)
CFG = Config(dict(model=dict(decode_head=dict(loss_decode=[dict(type='CPGLoss'), dict(type='CPGLoss', ksize=7)]))))


def lines(axis):
    return {
        (to_hex(line.get_color()), line.get_linestyle()): (
            list(line.get_xdata()),
            np.round(line.get_ydata(), 6).tolist(),
        )
        for line in axis.lines
        if len(line.get_xdata())
    }


def test_default_panels_are_what_was_logged():
    cfgs = [Config(dict(model={})), CFG]
    assert [panel.keys for panel in default_panels([BASELINE, CPG], cfgs)] == [
        ['loss'],
        ['decode.loss_cpg'],
        ['cpg_share'],
        ['boundary_share_ksize3', 'boundary_share_ksize7'],
        ['mIoU'],
    ]
    assert [panel.keys for panel in default_panels([BASELINE], cfgs[:1])] == [['loss'], ['mIoU']]
    named = Config(dict(model=dict(loss_decode=dict(type='mmseg_cpg.CPGLoss', loss_name='loss_edges'))))
    edges = Curves('edges', {'aux_1.loss_edges': {1: 1.0}})
    assert [panel.keys for panel in default_panels([edges], [named])] == [['aux_1.loss_edges']]


def test_each_run_has_its_color_and_shares_are_in_percent():
    figure = plot_curves([BASELINE, CPG], default_panels([BASELINE, CPG], [CFG]))
    total, loss, share, boundary, miou, unused = figure.axes
    blue, orange = '#1f77b4', '#ff7f0e'
    assert lines(total) == {(blue, '-'): ([10, 20], [3, 2]), (orange, '-'): ([10, 20], [5, 4])}
    assert lines(loss) == {(orange, '-'): ([10, 20], [2, 1])}
    assert lines(share) == {(orange, '-'): ([10, 20], [40, 25])}
    assert lines(boundary) == {(orange, '-'): ([10, 20], [8, 10]), (orange, '--'): ([10, 20], [20, 30])}
    assert lines(miou) == {(blue, '-'): ([20], [40])}
    assert not unused.axison
    assert share.get_ylim()[0] == boundary.get_ylim()[0] == 0
    assert [text.get_text() for text in boundary.get_legend().texts] == [
        'boundary_share_ksize3',
        'boundary_share_ksize7',
    ]
    (legend,) = figure.legends
    assert {
        text.get_text(): to_hex(handle.get_color())
        for text, handle in zip(legend.texts, legend.legend_handles, strict=True)
    } == {
        'baseline': blue,
        'cpg': orange,
    }


def test_panels_of_ones_own():
    (axis,) = plot_curves([CPG], [Panel('decode.acc_seg', ['decode.acc_seg'])]).axes
    assert list(lines(axis).values()) == [([10, 20], [90, 91])]
    assert axis.get_title() == 'decode.acc_seg'
