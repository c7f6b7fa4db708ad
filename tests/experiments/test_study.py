"""The study's plan and statistics on synthetic records, and that its page matches its record."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from scipy.stats import ttest_rel

from mmseg_cpg.cli.errors import UserError
from mmseg_cpg.experiments import study
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
    rows = tuned(study.CPG[0], [51, 52, 53])
    rows[1] |= dict(mBIoU='44.5')
    assert study.choose(rows, CAMVID.config, study.CPG[0].losses) == 'base+CPGLoss:0.3,ksize=3'
    rows[1] |= dict(state='diverged: loss nan at iteration 3')
    assert study.choose(rows, CAMVID.config, study.CPG[0].losses) == 'base+CPGLoss:2,ksize=3'
    assert study.choose(rows[:2], CAMVID.config, study.CPG[0].losses) is None
    assert study.choose(rows, 'another', study.CPG[0].losses) is None


def test_table_of_weights_shows_the_share_of_cpg():
    diverged = row(study.CPG[0].losses[1], 100, 0, state='diverged: loss nan at iteration 3')
    rows = [row(CE, 100, 50), row(study.CPG[0].losses[0], 100, 51) | dict(cpg_share='0.1269'), diverged]
    base, finished, diverged, not_run, *_ = study.tuning_table(rows, CAMVID).rows
    assert base[2:] == ['50.00', '40.00', '', '']
    assert finished[1:] == ['0.05', '51.00', '40.00', '13', '']
    assert diverged[2:] == ['diverged', 'diverged', '', '']
    assert not_run[2:] == ['not run', 'not run', '', '']


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
    assert len(trained) == study.planned(CAMVID)
    assert [stage.seeds for stage in plan[:4]] == [(100,), (0, 1, 2, 3, 4), (100,), (0, 1, 2, 3, 4)]
    assert plan[1].losses == ['base']
    assert plan[3].losses == [
        'base', *(f'base+CPGLoss:2,ksize={ksize}' for ksize in (3, 5, 7)), 'base+BoundaryCrossEntropyLoss:3',
    ]  # fmt: skip
    configs = {path.stem for path in (ROOT / 'configs/evidence').glob('*.py')}
    assert {stage.config for stage in plan} <= configs


def test_without_choices_the_baseline_goes_on():
    plan = [*study.stages(CAMVID, lambda: [row('base', 100, 50)])]
    assert [stage.losses for stage in plan if stage.seeds == study.SEEDS] == [['base']] * 3


def test_nothing_else_is_trained_before_the_baseline_has_converged():
    stages = study.stages(CAMVID, list)
    assert next(stages) == (CAMVID.config, (100,), ['base'])
    with pytest.raises(UserError, match='has no result with cross-entropy alone'):
        next(stages)
    rising = row('base', 100, 50) | dict(validations='[[1200, 49.5, 0.0], [1800, 50.0, 0.0]]')
    with pytest.raises(UserError, match=r'has not converged: mIoU rises from 49\.5 to 50\.0'):
        list(study.stages(CAMVID, lambda: [rising]))


def test_nothing_else_is_trained_if_the_baseline_misses_a_class():
    rows = [row('base', 100, 50), row('base', 0, 50) | {'IoU: car': '60.2', 'IoU: pole': ''}]
    assert len([*study.stages(CAMVID, lambda: rows)]) > 2
    rows.append(row('base', 1, 50) | {'IoU: car': '60.2', 'IoU: pole': '0.31'})
    with pytest.raises(UserError, match=r"missed the class 'pole' .* seed 1: its IoU is 0\.31 %"):
        list(study.stages(CAMVID, lambda: rows))


def test_holm():
    # By hand: sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    assert study.holm([0.04, 0.01, 0.03, 0.02], 4) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert study.holm([0.5, 0.9], 2) == [1, 1]
    assert study.holm([], 4) == []
    # Two more are not known yet: 0.01 * 4, 0.02 * 3, whatever they are.
    assert study.holm([0.02, 0.01], 4) == pytest.approx([0.06, 0.04])


def test_differences_are_paired_and_need_all_seeds():
    base, better = [60.0, 61.0, 59.0, 62.0, 60.5], [60.5, 61.52, 59.48, 62.5, 61.01]
    rows = [row(CE, seed, value) for seed, value in enumerate(base)]
    rows += [row(CPG3, seed, value) for seed, value in enumerate(better)]
    rows += [row(CPG7, seed, value) for seed, value in enumerate(better[:4])]
    rows.append(row(CPG7, 4, 0, state='diverged: loss nan at iteration 3'))
    miou, mbiou = study.differences(rows, CAMVID)
    assert (miou.losses, miou.reference, miou.measure.key) == (CPG3, CE, 'mIoU')
    assert miou.estimate.mean == pytest.approx(0.502)
    assert miou.p == pytest.approx(ttest_rel(better, base).pvalue)
    assert miou.p_holm == pytest.approx(16 * miou.p)
    assert miou.is_significant
    assert not mbiou.is_significant  # no difference at all


def test_the_best_kernel_is_compared_with_the_simplest():
    rows = [each for competitor in (*study.CPG, study.NEAR_BOUNDARY) for each in tuned(competitor, [51, 52, 53])]
    cpg, simplest = study.CPG[0].losses[-1], study.NEAR_BOUNDARY.losses[-1]
    rows += [
        row(losses, seed, 60 + seed + gain + 0.01 * seed * gain)
        for losses, gain in ((CE, 0), (cpg, 1), (simplest, 2))
        for seed in study.SEEDS
    ]
    found = study.differences(rows, CAMVID)
    assert [(each.losses, each.reference) for each in found[::2]] == [(cpg, CE), (simplest, CE), (cpg, simplest)]
    assert found[4].estimate.mean == pytest.approx(-1.02)


def test_further_comparisons():
    rows = [each for competitor in study.CPG for each in tuned(competitor, [51, 52, 53])]
    best = study.CPG[0].losses[-1]
    bce, twice, ramp = study.variants(CAMVID.config)
    rows += [row(best, seed, 60 + seed) for seed in study.SEEDS]
    for seed in study.SEEDS:
        rows += [row('base', seed, 50 + seed, config=bce), row(best, seed, 53 + seed, config=bce)]
    rows += [row('base', 0, 62, config=twice), row(best, 0, 64, config=twice)]
    rows += [row('base', seed, 59.5 + seed, config=ramp) for seed in (0, 1)]
    found = [line[0:1] + line[3:] for line in study.further_table(rows, CAMVID).rows if line[2] == 'mIoU']
    assert found == [
        [best.replace('base', 'BCE'), '+3.00 ± 0.00', '5'],
        [f'{best}, twice the iterations', '+2.00', '1'],
        [f'{best}, growing λ', '-0.50 ± 0.00', '2'],
    ]
    assert study.further_table(rows[:9], CAMVID) is None
    assert study.further_table([], CAMVID) is None


def test_the_report_of_a_full_record(tmp_path):
    rows = [each for competitor in (*study.CPG, study.NEAR_BOUNDARY) for each in tuned(competitor, [51, 52, 53])]
    rows += [row('base', 100, 49.5)]
    best = study.best_cpg(rows, CAMVID.config)
    rows += [row(losses, seed, 60 + seed + n) for n, losses in enumerate([CE, best]) for seed in study.SEEDS]
    text = results(rows)
    cells = [[cell.strip() for cell in line.split('|')] for line in text.splitlines()]
    assert ['', 'CPGLoss,ksize=3', '2', '53.00', '40.00', '', 'chosen', ''] in cells
    assert ['', 'RMILoss', '0.05', 'not run', 'not run', '', '', ''] in cells
    assert ['', 'pole', 'yes', '22.00 ± 1.96', '+1.00 ± 0.00', ''] in cells
    # Six runs: (60 + ... + 64 + 49.5) / 6
    assert '1200: 59.67, 1800: 59.92' in text
    assert text.index('pole') < text.index('sky')
    figures = draw_plots(rows)
    assert figures.keys() == {'camvid_weights', 'camvid_seeds', 'camvid_convergence'}
    miou, _ = figures['camvid_convergence'].axes
    assert [[*line.get_ydata()] for line in miou.lines if line.get_color() == 'black'][:2] == [[59.75, 60], [60.75, 61]]
    assert sum(line.get_color() == 'tab:red' for line in miou.lines) == len(study.SEEDS)
    assert '(evidence/camvid_weights.png)' in text
    assert 'sstem_weights' not in text
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{BEGIN}\nold\n{END}\nafter\n')
    write_page(rows, page)
    write_page(rows, page)
    assert page.read_text() == f'before\n{BEGIN}\n\n{text}\n{END}\nafter\n'


def test_the_page_says_what_its_record_says():
    page = (ROOT / 'docs/evidence.md').read_text()
    _, _, rest = page.partition(BEGIN)
    found, _, _ = rest.partition(END)
    assert found.strip() == results(Record(ROOT / 'docs/evidence/trainings.csv').rows()).strip()


def test_the_page_states_the_weights_of_the_plan():
    page = (ROOT / 'docs/evidence.md').read_text()
    for competitor in (study.CPG[0], study.NEAR_BOUNDARY, *study.OTHERS):
        (line,) = [line for line in page.splitlines() if line.startswith(f'| `{competitor.name}`')]
        assert line.endswith(f'| {", ".join(f"{weight:g}" for weight in competitor.weights)} |')
    for dataset in study.DATASETS.values():
        assert f'`{dataset.config}`' in page
        cfg = Config.fromfile(ROOT / f'configs/evidence/{dataset.config}.py', import_custom_modules=False)
        assert set(dataset.thin_classes) <= set(cfg.metainfo.classes)
