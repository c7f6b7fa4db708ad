"""The study's plan, statistics and tables on synthetic records, and that its page matches its record."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from scipy.stats import ttest_rel

from mmseg_cpg.cli.errors import UserError
from mmseg_cpg.experiments import study, study_tables
from mmseg_cpg.experiments.records import Record
from mmseg_cpg.experiments.study_report import BEGIN, END, draw_plots, results, write_page

ROOT = Path(__file__).resolve().parents[2]
CAMVID = study.DATASETS['camvid']
CE, CPG3, CPG7 = 'base', 'base+CPGLoss:0.3,ksize=3', 'base+CPGLoss:2,ksize=7'


def row(losses, seed, miou, mbiou=40.0, config=CAMVID.config, state='finished'):
    """A row as Record.rows() gives it."""
    values = dict(mIoU=miou, mBIoU=mbiou, mF_1px=1.0, mF_3px=2.0, step_ms=3.0, memory_mib=4.0, cpg_share='')
    values |= {'IoU: sky': miou, 'IoU: pole': miou - 40}
    validations = json.dumps([[1200, miou - 0.25, 0.0], [1800, miou, 0.0]])
    about = dict(config=config, losses=losses, seed=seed, title=losses, state=state, validations=validations)
    return {name: str(value) for name, value in (about | (values if state == 'finished' else {})).items()}


def tuned(competitor, scores, **options):
    return [row(losses, 100, score, **options) for losses, score in zip(competitor.losses, scores, strict=True)]


def test_the_weight_with_the_best_mean_of_both_outcomes_is_chosen():
    cpg3 = study.CPG[0]
    rows = tuned(cpg3, [51, 52, 53])
    rows[1] |= dict(mBIoU='44.5')
    assert study.choose(rows, CAMVID.config, cpg3) == 'base+CPGLoss:0.3,ksize=3'
    assert study.choose(rows[:2], CAMVID.config, cpg3) is None
    assert study.choose(rows, 'another', cpg3) is None
    rows[1] |= dict(state='diverged: loss nan at iteration 3')
    assert study.choose(rows, CAMVID.config, cpg3) is None  # one beyond the highest has to be trained
    # Equal means, but not in floating point.
    rows[2] |= dict(mIoU='72.88', mBIoU='58.14')
    rows.append(row('base+CPGLoss:10,ksize=3', 100, 72.17, mbiou=58.85))
    assert study.choose(rows, CAMVID.config, cpg3) == 'base+CPGLoss:2,ksize=3'


@pytest.mark.parametrize(
    ('scores', 'beyond'), [([53, 52, 51], [0.008]), ([51, 53, 52], []), ([51, 52, 53], [10]), ([51, 52], [])]
)
def test_one_weight_beyond_the_best_is_a_candidate(scores, beyond):
    cpg3 = study.CPG[0]
    rows = [row(losses, 100, score) for losses, score in zip(cpg3.losses, scores, strict=False)]
    found = study.candidates(rows, CAMVID.config, cpg3)
    assert {*found} - {*cpg3.losses} == {f'base+CPGLoss:{weight},ksize=3' for weight in beyond}
    assert found == sorted(found, key=lambda losses: float(study_tables.split(losses)[1]))


def test_the_next_best_weight_is_trained_if_the_chosen_one_misses_a_class():
    control = study.UNWEIGHTED
    rows = [row(CE, 100, 50), *tuned(control, [51, 53, 52])]
    rows += [row(control.losses[1], seed, 60) for seed in study.SEEDS]
    assert study.second_choice(rows, CAMVID.config, control) is None
    rows[-1]['IoU: pole'] = '0.4'
    second = control.losses[2]
    assert study.second_choice(rows, CAMVID.config, control) == second
    before = study.planned(rows[:-1], CAMVID)
    assert study.planned(rows, CAMVID) == before + len(study.SEEDS)
    stages = [*study.stages(CAMVID, lambda: rows)]
    index = stages.index((CAMVID.config, study.SEEDS, ['base', control.losses[1]], 'base'))
    assert stages[index + 1] == (CAMVID.config, study.SEEDS, ['base', second], 'base')
    # Both are in the table, in the order of the plan, with what they missed.
    rows += [row(losses, 0, 61) for losses in (study.OTHERS[0].losses[0], second, CE)]
    shown = [(line[0], *line[-2:]) for line in study_tables.seeds_table(rows, CAMVID).rows]
    assert shown == [
        ('CE, mean', '1', '0'),
        ('CE without class weights, weight 1.5', '5', '1'),
        ('CE without class weights, weight 8', '1', '0'),
        ('RMI, weight 0.015', '1', '0'),
    ]


def test_the_best_kernel_is_known_when_all_have_been_tuned():
    rows = [each for competitor in study.CPG for each in tuned(competitor, [51, 52, 51])]
    rows[4] |= dict(mIoU='52.5')
    assert study.best_cpg(rows, CAMVID.config) == (study.CPG[1], 'base+CPGLoss:0.3,ksize=5')
    assert study.best_cpg(rows[:-1], CAMVID.config) is None


def test_table_of_weights_shows_the_share_of_cpg_and_what_was_chosen():
    diverged = row(study.CPG[0].losses[1], 100, 0, state='diverged: loss nan at iteration 3')
    rows = [row(CE, 100, 50), row(study.CPG[0].losses[0], 100, 51) | dict(cpg_share='0.1269'), diverged]
    base, finished, diverged, not_run, *_ = study_tables.tuning_table(rows, CAMVID).rows
    assert base[2:] == ['50.00', '40.00', '', '']
    assert finished[1:] == ['0.05', '51.00', '40.00', '13', '']
    assert diverged[2:] == ['diverged', 'diverged', '', '']
    assert not_run[2:] == ['not run', 'not run', '', '']
    rows = [*tuned(study.CPG[0], [51, 52, 53]), row('base+CPGLoss:10,ksize=3', 100, 54)]
    *_, highest = study_tables.tuning_table(rows, CAMVID).rows[:5]
    assert highest == ['CPG, ksize 3', '10', '54.00', '40.00', '', 'chosen, the highest']
    rows = tuned(study.CPG[0], [51, 53, 52])
    assert study_tables.tuning_table(rows, CAMVID).rows[2][5] == 'chosen'


def test_the_plan_goes_on_with_what_was_chosen():
    rows = []

    def train(stage):
        """Record a stage: the last of its losses does best."""
        for n, losses in enumerate(stage.losses):
            rows.extend(row(losses, seed, 50 + n, config=stage.config) for seed in stage.seeds)

    plan, trained = [], set()
    for stage in study.stages(CAMVID, lambda: rows):
        plan.append(stage)
        train(stage)
        trained |= {(stage.config, losses, seed) for losses in ('base', *stage.losses) for seed in stage.seeds}
    assert len(trained) == study.planned(rows, CAMVID)
    assert len([*study.stages(CAMVID, lambda: rows)]) == len(plan)
    assert [stage.seeds for stage in plan[:4]] == [(100,), (0, 1, 2, 3, 4), (100,), (100,)]
    assert plan[1].losses == ['base']
    assert plan[3] == (
        CAMVID.config,
        (100,),
        [f'base+CPGLoss:10,ksize={ksize}' for ksize in (3, 5, 7)] + ['base+BoundaryCrossEntropyLoss:20'],
        'base',
    )
    assert plan[4].losses == [
        'base', *(f'base+CPGLoss:2,ksize={ksize}' for ksize in (3, 5, 7)), 'base+BoundaryCrossEntropyLoss:3',
    ]  # fmt: skip
    configs = {path.stem for path in (ROOT / 'configs/evidence').glob('*.py')}
    assert {stage.config for stage in plan} <= configs


def test_without_choices_the_baseline_goes_on():
    plan = [*study.stages(CAMVID, lambda: [row('base', 100, 50)])]
    assert [stage.losses for stage in plan if stage.seeds == study.SEEDS] == [['base']] * 4


def test_nothing_else_is_trained_before_the_baseline_has_converged():
    stages = study.stages(CAMVID, list)
    assert next(stages) == (CAMVID.config, (100,), ['base'], 'base')
    with pytest.raises(UserError, match='has no result with its own loss alone'):
        next(stages)
    rising = row('base', 100, 50) | dict(validations='[[1200, 49.5, 0.0], [1800, 50.0, 0.0]]')
    with pytest.raises(UserError, match=r'has not converged: mIoU rises from 49\.5 to 50\.0'):
        list(study.stages(CAMVID, lambda: [rising]))


def test_nothing_else_is_trained_if_the_baseline_misses_a_class():
    rows = [row('base', 100, 50), row('base', 0, 50) | {'IoU: car': '60.2', 'IoU: pole': ''}]
    assert len([*study.stages(CAMVID, lambda: rows)]) > 2
    rows.append(row('base', 1, 50) | {'IoU: car': '60.2', 'IoU: pole': '0.31'})
    with pytest.raises(UserError, match=r"missed the class 'pole' .* seed 1: its IoU is below 1\.0 %"):
        list(study.stages(CAMVID, lambda: rows))


def test_holm():
    # By hand: sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    assert study_tables.holm([0.04, 0.01, 0.03, 0.02], 4) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert study_tables.holm([0.5, 0.9], 2) == [1, 1]
    assert study_tables.holm([], 4) == []
    # Two more are not known yet: 0.01 * 4, 0.02 * 3, whatever they are.
    assert study_tables.holm([0.02, 0.01], 4) == pytest.approx([0.06, 0.04])


BASE, BETTER = [60.0, 61.0, 59.0, 62.0, 60.5], [60.5, 61.52, 59.48, 62.5, 61.01]


def with_choices():
    """Rows of tuning in which each middle weight is chosen and ksize 3 is best; the best CPG; the simplest loss."""
    rows = [each for competitor in (*study.CPG, study.NEAR_BOUNDARY) for each in tuned(competitor, [51, 52, 51])]
    return rows, CPG3, study.NEAR_BOUNDARY.losses[1]


def test_differences_are_paired_and_need_all_seeds():
    rows, cpg, simplest = with_choices()
    rows += [row(CE, seed, value) for seed, value in enumerate(BASE)]
    rows += [row(cpg, seed, value) for seed, value in enumerate(BETTER)]
    rows += [row(simplest, seed, value) for seed, value in enumerate(BETTER[:4])]
    rows.append(row(simplest, 4, 0, state='diverged: loss nan at iteration 3'))
    miou, mbiou, *others = study_tables.differences(rows, CAMVID)
    assert (miou.losses, miou.reference, miou.measure.key) == (cpg, CE, 'mIoU')
    assert miou.estimate.mean == pytest.approx(0.502)
    assert miou.p_holm == pytest.approx(4 * ttest_rel(BETTER, BASE).pvalue)
    assert miou.verdict == 'better'
    assert mbiou.verdict == 'undecided'  # no difference at all
    assert [(each.reference, each.estimate, each.verdict) for each in others] == [(simplest, None, 'not run')] * 2
    assert study_tables.differences(rows[1:], CAMVID) == []


def test_a_significant_loss_is_worse():
    rows, cpg, _ = with_choices()
    rows += [row(CE, seed, value) for seed, value in enumerate(BETTER)]
    rows += [row(cpg, seed, value) for seed, value in enumerate(BASE)]
    assert study_tables.differences(rows, CAMVID)[0].verdict == 'worse'
    cells = study_tables.differences_table(rows, CAMVID).rows[0]
    assert cells[:4] == ['CPG, ksize 3, weight 0.3', 'CE', 'mIoU', '-0.50 ± 0.02']
    assert cells[4:] == ['< 0.001', 'worse']


def test_titles():
    assert study_tables.title_of('base') == 'CE'
    assert study_tables.title_of(CPG7) == 'CPG, ksize 7, weight 2'
    for competitor in study.COMPETITORS:
        assert [study_tables.split(losses) for losses in competitor.losses] == [
            (competitor.title, f'{weight:g}') for weight in competitor.weights
        ]


def test_further_comparisons():
    rows, cpg, _ = with_choices()
    bce, twice, ramp = study.variants(CAMVID.config)
    rows += [row(losses, seed, 60 + seed + gain) for losses, gain in ((CE, 0), (cpg, 1)) for seed in study.SEEDS]
    rows += tuned(study.CPG[0], [51, 52, 51], config=bce)
    for seed in study.SEEDS:
        rows += [row('base', seed, 50 + seed, config=bce), row(cpg, seed, 53 + seed, config=bce)]
    rows += [row('base', 0, 62, config=twice), row(cpg, 0, 64, config=twice)]
    rows += [row('base', seed, 60.5 + seed, config=ramp) for seed in (0, 1)]
    found = [line[0:1] + line[3:] for line in study_tables.further_table(rows, CAMVID).rows if line[2] == 'mIoU']
    assert found == [
        ['with BCE, weight 0.3', '+3.00 ± 0.00', '5'],
        ['with twice the iterations', '+2.00', '1'],
        ['with the usual iterations, seed 0', '+1.00', '1'],
        ['with a growing λ', '-0.50 ± 0.00', '2'],
    ]
    assert study_tables.incomplete(rows, CAMVID)[-1] == 'a growing λ'
    assert study_tables.further_table(rows[:12], CAMVID) is None
    assert study_tables.further_table([], CAMVID) is None


def test_the_report_of_a_full_record(tmp_path):
    rows, best, _ = with_choices()
    rows += [row('base', 100, 49.5)]
    rows += [row(losses, seed, 60 + seed + n) for n, losses in enumerate([CE, best]) for seed in study.SEEDS]
    rows.append(row(study.OTHERS[0].losses[0], 100, 0, state='diverged: loss nan at iteration 3'))
    rows[0]['IoU: pole'] = '0.4'
    text = results(rows, draw_plots(rows))
    cells = [[cell.strip() for cell in line.split('|')] for line in text.splitlines()]
    assert ['', 'CamVid', '24', '91', '1', '1', ''] in cells
    assert ['', 'CPG, ksize 3', '0.3', '52.00', '40.00', '', 'chosen', ''] in cells
    assert ['', 'RMI', '0.015', 'diverged', 'diverged', '', '', ''] in cells
    assert ['', 'RMI', '0.08', 'not run', 'not run', '', '', ''] in cells
    same = '+0.00 ± 0.00'
    assert ['', 'CPG, ksize 3, weight 0.3', '+1.00 ± 0.00', same, same, same, '5', '0', ''] in cells
    assert ['', 'pole', 'yes', '22.00 ± 1.96', '+1.00 ± 0.00', ''] in cells
    assert (
        'Not run with all seeds yet on CamVid: CPG, ksize 5; CPG, ksize 7; CE near boundaries; '
        'CE without class weights; RMI; Active Boundary; Dice; CPG with BCE; CPG with twice the iterations; '
        'a growing λ.'
    ) in text
    assert 'Active Boundary' not in text.partition('all losses')[2].partition('Runs so far')[0]
    # Six runs: (60 + ... + 64 + 49.5) / 6, and (61 + ... + 65 + 52) / 6
    convergence = [row[2:] for row in cells if row[1:2] == [f'`{CAMVID.config}`']]
    assert convergence == [
        ['its own', '6', '1200: 59.67, 1800: 59.92', '+0.25', ''],
        ['+ CPG, ksize 3', '6', '1200: 60.92, 1800: 61.17', '+0.25', ''],
    ]
    assert text.index('pole') < text.index('sky')
    figures = draw_plots(rows)
    assert figures.keys() == {'camvid_weights', 'camvid_seeds', 'camvid_convergence'}
    miou, _ = figures['camvid_convergence'].axes
    assert [[*line.get_ydata()] for line in miou.lines if line.get_color() == 'black'][:2] == [[59.75, 60], [60.75, 61]]
    assert sum(line.get_color() == 'tab:red' for line in miou.lines) == len(study.SEEDS)
    assert '(evidence/camvid_weights.png)' in text
    assert 'sstem_weights' not in text
    page = tmp_path / 'page.md'
    (tmp_path / 'evidence').mkdir()
    page.write_text(f'before\n{BEGIN}\nold\n{END}\nafter\n')
    write_page(rows, page)
    write_page(rows, page)
    assert page.read_text() == f'before\n{BEGIN}\n\n{text}\n{END}\nafter\n'
    assert {path.stem for path in (tmp_path / 'evidence').iterdir()} == figures.keys()


def test_the_page_says_what_its_record_says():
    page = (ROOT / 'docs/evidence.md').read_text()
    _, _, rest = page.partition(BEGIN)
    found, _, _ = rest.partition(END)
    rows = Record(ROOT / 'docs/evidence/trainings.csv').rows()
    assert found.strip() == results(rows, draw_plots(rows)).strip()


def test_the_page_states_the_weights_of_the_plan():
    page = (ROOT / 'docs/evidence.md').read_text()
    for competitor in (study.CPG[0], study.NEAR_BOUNDARY, study.UNWEIGHTED, *study.OTHERS):
        (line,) = [line for line in page.splitlines() if line.startswith(f'| `{competitor.name}`')]
        assert line.endswith(f'| {", ".join(f"{weight:g}" for weight in competitor.weights)} |')
    for dataset in study.DATASETS.values():
        assert f'`{dataset.config}`' in page
        cfg = Config.fromfile(ROOT / f'configs/evidence/{dataset.config}.py', import_custom_modules=False)
        assert set(dataset.thin_classes) <= set(cfg.metainfo.classes)


def words_of(path):
    return ' '.join((ROOT / path).read_text().split())


def test_what_the_pages_say_of_sstem():
    rows, sstem = Record(ROOT / 'docs/evidence/trainings.csv').rows(), study.DATASETS['sstem']
    page, readme = words_of('docs/evidence.md'), words_of('README.md')
    found = study_tables.differences(rows, sstem)
    assert [each.verdict for each in found] == ['better', 'better', 'undecided', 'undecided']
    assert {each.losses for each in found} == {'base+CPGLoss:2,ksize=5'}
    cpg, simplest = map(study_tables.title_of, (found[0].losses, found[2].reference))
    comparison = study_tables.compare_seeds(rows, sstem)
    gains = [comparison.difference(simplest, measure) for measure in study.PRIMARY]
    gain, lead = [each.estimate for each in found[:2]], [each.estimate for each in found[2:]]
    assert f'raises mIoU by {gain[0].text(1)} points and Boundary IoU by {gain[1].text(1)}' in page
    assert f'near boundaries raises them by {gains[0].text(1)} and {gains[1].text(1)}; the difference' in page
    assert f'{lead[0].text(1)} and {lead[1].text(1)} in favor of CPG' in page
    assert f'gains {gain[0].text(1)} points of mIoU and {gain[1].text(1)} of Boundary IoU over CE' in readme
    assert f'near boundaries, gains {gains[0].text(1)} and {gains[1].text(1)}' in readme
    base = [comparison.mean('CE', measure).mean for measure in study.PRIMARY]
    assert f'(cross-entropy alone: {base[0]:.1f} and {base[1]:.1f})' in page
    synapse = study_tables.Measure('IoU: synapse', 'synapse', '%')
    assert f'Synapses gain {comparison.difference(cpg, synapse).text(1)} points of IoU' in page
    (lead,) = [line[-1] for line in study_tables.class_table(rows, sstem).rows if line[0] == 'membrane']
    assert lead == '+0.93 ± 0.33'
    assert '0.9 ± 0.3 points of IoU more than CE near boundaries' in page
    missed = {line[0]: line[-2:] for line in study_tables.seeds_table(rows, sstem).rows}
    control = 'CE without class weights, weight'
    assert (missed[f'{control} 8'], missed[f'{control} 40']) == (['5', '3'], ['5', '5'])
    assert missed[cpg] == missed[simplest] == ['5', '0']
    assert 'misses them with 3 of 5 seeds (weight 8) or with all (weight 40)' in page


def test_what_the_pages_say_of_the_weights():
    rows, config = Record(ROOT / 'docs/evidence/trainings.csv').rows(), study.DATASETS['sstem'].config
    chosen = [study.choose(rows, config, competitor) for competitor in study.CPG]
    assert chosen == [f'base+CPGLoss:2,ksize={ksize}' for ksize in (3, 5, 7)]
    for competitor in study.CPG:
        assert [study_tables.split(losses)[1] for losses in study.candidates(rows, config, competitor)] == [
            *('0.05', '0.3', '2', '10')
        ]
    guide = words_of('docs/user_guides/cpg_loss.md')
    for weight, sentence in ((2, 'the best had {} to {} %'), (10, 'At λ = 10, where mIoU fell, it was {} to {} %')):
        share = [
            100 * float(study.tuning_row(rows, config, competitor.with_weight(weight))['cpg_share'])
            for competitor in study.CPG
        ]
        assert sentence.format(*(f'{each:.0f}' for each in (min(share), max(share)))) in guide
