"""The tables and the plot of synthetic trainings."""

import csv
import io

import pytest
from matplotlib.colors import to_hex

from mmseg_cpg.experiments.comparison import Comparison, Measure, Training
from mmseg_cpg.experiments.comparison_plot import BETTER, UNCLEAR, WORSE, draw_comparison

MIOU, F = Measure('mIoU', 'mIoU', '%'), Measure('mF_3px', 'F-score 3 px', '%')


def make(**miou):
    """A comparison of some losses by the mIoU of their seeds, None for a training without a result."""
    trainings = [
        Training(
            losses,
            seed,
            'failed: why' if value is None else 'finished',
            f'{losses}_seed_{seed}',
            {} if value is None else dict(mIoU=value, mF_3px=2 * value, step_ms=10 * value, memory_mib=100),
        )
        for losses, values in miou.items()
        for seed, value in enumerate(values)
    ]
    return Comparison('config', trainings, [MIOU, F], ['note'])


def rows_of(table):
    return list(csv.DictReader(io.StringIO(table.csv())))


def test_differences_are_those_of_equal_seeds():
    # Seeds differ by far more than losses do.
    comparison = make(base=[10.0, 30.0, 50.0], a=[11.0, 31.5, 51.5])
    assert comparison.differences('a', MIOU) == {0: 1.0, 1: 1.5, 2: 1.5}
    found = comparison.difference('a', MIOU)
    # 4.303 * sqrt(1/12) / sqrt(3)
    assert (found.mean, found.margin, found.count) == pytest.approx((4 / 3, 0.7172, 3), rel=1e-3)
    assert comparison.mean('a', MIOU).margin > 49
    assert comparison.difference('base', MIOU) is None


def test_a_failed_training_leaves_the_other_pairs():
    comparison = make(base=[10.0, None, 50.0], a=[11.0, 31.0, None], b=[None, None, None])
    assert comparison.differences('a', MIOU) == {0: 1.0}
    assert comparison.mean('a', MIOU).count == 2
    assert comparison.difference('b', MIOU) is comparison.mean('b', MIOU) is None
    table = comparison.table()
    assert [row[:4] for row in table.rows] == [
        ['base (baseline)', '2 of 3', '30.00 ± 254.12', '–'],
        ['a', '2 of 3', '21.00 ± 127.06', '+1.00'],
        ['b', '0 of 3', '–', '–'],
    ]
    assert [row[2] for row in comparison.list_of_trainings().rows].count('failed: why') == 5


def test_scores_that_are_no_number_are_none():
    comparison = make(base=[10.0, 20.0], a=[float('nan'), 21.0])
    assert comparison.differences('a', MIOU) == {1: 1.0}


def test_costs_are_shown_with_what_they_add():
    comparison = make(base=[10.0, 10.0], a=[11.0, 12.0])
    assert comparison.table().rows[1][-2:] == ['115.0 ± 63.5 (+15 ± 64 %)', '100 ± 0 (+0 ± 0 %)']
    assert comparison.table().rows[0][-2:] == ['100.0 ± 0.0', '100 ± 0']


def test_numbers_for_other_programs():
    base, a = rows_of(make(base=[10.0, 12.0], a=[11.0, 14.0]).numbers())
    assert (base['losses'], base['seeds'], base['mIoU, %'], base['mIoU, %: difference']) == ('base', '2', '11.0000', '')
    assert a['mIoU, %: difference'] == '1.5000'
    assert float(a['mIoU, %: difference ±']) == pytest.approx(6.353, rel=1e-3)
    assert a['step, ms: difference'] == '15.0000'
    trainings = rows_of(make(base=[10.0, 12.0], a=[11.0, None]).list_of_trainings())
    assert [(row['losses'], row['seed'], row['mIoU, %']) for row in trainings] == [
        ('base', '0', '10.00'),
        ('base', '1', '12.00'),
        ('a', '0', '11.00'),
        ('a', '1', ''),
    ]


@pytest.mark.parametrize(
    ('count', 'note'), [(1, 'A confidence interval needs'), (2, 'Intervals of two seeds are wide'), (3, None)]
)
def test_the_notes_say_what_few_seeds_mean(count, note):
    notes = make(base=[10.0] * count, a=[11.0] * count).table().notes
    assert notes[-1] == 'note'
    assert [each for each in notes if '--seeds' in each] == [each for each in notes if note and each.startswith(note)]
    assert len(notes) == (4 if note else 3)


def test_a_long_message_fits_its_cell():
    comparison = make(base=[None])
    comparison.trainings[0] = comparison.trainings[0]._replace(state=f'failed: a | b{" and so on" * 50}')
    state = comparison.list_of_trainings().rows[0][2]
    assert state.startswith('failed: a / b and so on')
    assert len(state) <= 120


def test_the_plot_shows_what_is_better_worse_and_undecided():
    comparison = make(
        base=[10.0, 20.0, 30.0], up=[11.0, 21.1, 31.0], down=[9.0, 18.9, 29.0], open=[8.0, 22.0, 30.0], lost=[None] * 3
    )
    figure = draw_comparison(comparison)
    assert [axes.get_title() for axes in figure.axes] == ['mIoU\nbase: 20.00 %', 'F-score 3 px\nbase: 40.00 %']
    axes = figure.axes[0]
    labels = [label.get_text().splitlines() for label in axes.get_yticklabels()]
    assert [losses for losses, *_ in labels] == ['up', 'down', 'open', 'lost']
    assert labels[2][1] == 'step +0 ± 25 %, memory +0 ± 0 %'
    dots = [line for line in axes.lines if line.get_marker() == 'o']
    assert [to_hex(dot.get_color()) for dot in dots] == [BETTER, WORSE, to_hex(UNCLEAR)]
    assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([3.1 / 3, -3.1 / 3, 0])
    seeds = [line for line in axes.lines if line.get_marker() == '|']
    assert seeds[2].get_xdata() == pytest.approx([-2, 2, 0])
    assert [text.get_text() for text in axes.texts] == ['+1.03', '-1.03', '+0.00', 'no result']


def test_the_plot_waits_for_a_difference():
    assert draw_comparison(make(base=[10.0, 11.0], a=[None, None])) is None
    assert draw_comparison(make(base=[10.0, None], a=[None, 11.0])) is None
    figure = draw_comparison(make(base=[10.0], a=[11.0]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['one seed: no interval']
