"""The statistics and tables of the evidence study, from its record alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from scipy.stats import ttest_1samp

from .comparison import COSTS, NOTHING, Comparison, Measure, Training
from .intervals import Estimate, estimate
from .records import read_row
from .study import (
    COMPETITORS,
    DATASETS,
    IOU,
    NEAR_BOUNDARY,
    PRIMARY,
    SEEDS,
    TUNING_SEED,
    Dataset,
    Row,
    best_cpg,
    candidates,
    choose,
    missed_classes,
    planned,
    rows_of,
    tuning_row,
    variants,
)
from .tables import NOT_RUN, Table
from .work_dirs import FINISHED

SECONDARY = (Measure('mF_1px', 'F-score 1 px', '%'), Measure('mF_3px', 'F-score 3 px', '%'))
ALPHA = 0.05
# The best CPG with CE and with the simplest loss.
NUM_COMPARISONS = 2 * len(PRIMARY)


class Difference(NamedTuple):
    """A primary comparison: the mean of the paired differences of an outcome, and p after Holm's correction.

    ``estimate`` and ``p_holm`` are None before all seeds have been trained.
    """

    losses: str
    reference: str
    measure: Measure
    estimate: Estimate | None
    p_holm: float | None

    @property
    def verdict(self) -> str:
        """'better' or 'worse' if the difference is significant, else 'undecided'."""
        if self.estimate is None or self.p_holm is None:
            return NOT_RUN
        if self.p_holm >= ALPHA:
            return 'undecided'
        return 'better' if self.estimate.mean > 0 else 'worse'


def title_of(losses: str) -> str:
    """Losses in tables and plots, e.g. 'CPG, ksize 5, weight 0.05'."""
    title, weight = split(losses)
    return f'{title}, weight {weight}' if weight else title


def split(losses: str) -> tuple[str, str]:
    """Title and weight of losses, e.g. 'CPG, ksize 5' and '0.05'; 'CE' and '' without an added loss."""
    for competitor in COMPETITORS:
        name, _, weight = losses.removesuffix(competitor.options).rpartition(':')
        if losses.endswith(competitor.options) and name == f'base+{competitor.name}':
            return competitor.title, weight
    return 'CE', ''


def differences(rows: list[Row], dataset: Dataset) -> list[Difference]:
    """The primary comparisons of a dataset; none before weights have been chosen."""
    best, simplest = best_cpg(rows, dataset.config), choose(rows, dataset.config, NEAR_BOUNDARY)
    if best is None or simplest is None:
        return []
    _, cpg = best
    found = []
    for reference in ('base', simplest):
        for measure in PRIMARY:
            values = _paired(rows, (dataset.config, cpg), (dataset.config, reference), measure)
            complete = len(values) == len(SEEDS)
            p = float(ttest_1samp(values, 0).pvalue) if complete else None
            found.append(Difference(cpg, reference, measure, estimate(values) if complete else None, p))
    corrected = iter(holm([each.p_holm for each in found if each.p_holm is not None], NUM_COMPARISONS))
    return [each if each.p_holm is None else each._replace(p_holm=next(corrected)) for each in found]


def _paired(rows: list[Row], trained: tuple[str, str], reference: tuple[str, str], measure: Measure) -> list[float]:
    """The differences of two (config, losses) for the seeds that both have."""
    values, expected = (
        {
            row['seed']: float(row[measure.key])
            for row in rows_of(rows, config, SEEDS)
            if row['losses'] == losses and row['state'] == FINISHED
        }
        for config, losses in (trained, reference)
    )
    return [value - expected[seed] for seed, value in values.items() if seed in expected]


def holm(p_values: list[float], count: int) -> list[float]:
    """Correct the p-values known so far of ``count`` comparisons with Holm's step-down method."""
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def compare_seeds(rows: list[Row], dataset: Dataset) -> Comparison | None:
    """Compare the scores of the losses over the seeds of the study; None before the baseline has been trained."""
    order = ['CE', *(competitor.title for competitor in COMPETITORS)]
    found = sorted(rows_of(rows, dataset.config, SEEDS), key=lambda row: order.index(split(row['losses'])[0]))
    if not found or found[0]['losses'] != 'base':
        return None
    # Costs are left out: they are those of machines that did other work, too.
    costs = {measure.key: '' for measure in COSTS}
    trainings = [read_row(row | costs | {'title': title_of(row['losses'])}, '') for row in found]
    return Comparison(dataset.name, trainings, [*PRIMARY, *SECONDARY], [])


def status_table(rows: list[Row]) -> Table:
    """Numbers of training runs by dataset, and what is missing, which the other tables leave out."""
    body, notes = [], []
    for dataset in DATASETS.values():
        found = [row for row in rows if row['config'].startswith(dataset.config)]
        diverged = sum(row['state'] != FINISHED for row in found)
        missed = sum(bool(missed_classes(row)) for row in found)
        body.append([dataset.name, *map(str, (len(found), planned(rows, dataset), diverged, missed))])
        missing = '; '.join(incomplete(rows, dataset))
        notes += [f'Not run with all seeds yet on {dataset.name}: {missing}.'] if missing else []
    columns = ['data', 'ended', 'planned', 'of those ended, diverged', 'with a class below 1 % IoU']
    return Table('status', 'Runs so far', columns, body, notes)


def incomplete(rows: list[Row], dataset: Dataset) -> list[str]:
    """The losses and further questions that have not been trained with all their seeds."""
    best = best_cpg(rows, dataset.config)
    chosen = {competitor.title: choose(rows, dataset.config, competitor) for competitor in COMPETITORS}
    bce, twice, ramp = variants(dataset.config)
    planned_runs: list[tuple[str, str, str | None, Sequence[int]]] = [('CE', dataset.config, 'base', SEEDS)]
    planned_runs += [(title, dataset.config, losses, SEEDS) for title, losses in chosen.items()]
    planned_runs += [
        ('CPG with BCE', bce, choose(rows, bce, best[0]) if best else None, SEEDS),
        ('CPG with twice the iterations', twice, best[1] if best else None, SEEDS[:1]),
        ('a growing λ', ramp, 'base', SEEDS),
    ]
    return [
        title
        for title, config, losses, seeds in planned_runs
        if sum(row['losses'] == losses for row in rows_of(rows, config, seeds)) < len(seeds)
    ]


def differences_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The primary comparisons, None before weights have been chosen."""
    found = differences(rows, dataset)
    if not found:
        return None
    columns = ['losses', 'compared with', 'outcome', 'difference, points', 'p (Holm)', 'result']
    body = [
        [
            title_of(each.losses),
            title_of(each.reference),
            each.measure.title,
            _text(each.estimate),
            NOTHING if each.p_holm is None else '< 0.001' if each.p_holm < 0.001 else f'{each.p_holm:.3f}',
            each.verdict,
        ]
        for each in found
    ]
    note = f'Mean of {len(SEEDS)} paired differences ± half its 95 % interval; Holm over {NUM_COMPARISONS} comparisons.'
    return Table('differences', f'{dataset.name}: primary comparisons', columns, body, [note])


def seeds_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The differences of all losses that have run from CE, None before any has."""
    comparison = compare_seeds(rows, dataset)
    if comparison is None or len(comparison.losses) == 1:
        return None
    measures = (*PRIMARY, *SECONDARY)
    means = [comparison.mean(comparison.baseline, measure) for measure in measures]
    body = [['CE, mean', *(_text(mean, '') for mean in means), _count(comparison.trainings, 'CE')]]
    for title in comparison.losses[1:]:
        changes = [comparison.difference(title, measure) for measure in measures]
        body.append([title, *map(_text, changes), _count(comparison.trainings, title)])
    missed = Counter(title_of(row['losses']) for row in rows_of(rows, dataset.config, SEEDS) if missed_classes(row))
    body = [[*line, str(missed[title])] for title, line in zip(comparison.losses, body, strict=True)]
    columns = ['added to CE', *(f'Δ {measure.title}' for measure in measures), 'runs', 'of these, missed a class']
    note = 'Paired differences from CE, in points, with 95 % intervals that are not corrected for the number of losses.'
    return Table('seeds', f'{dataset.name}: all losses', columns, body, [note])


def _count(trainings: list[Training], title: str) -> str:
    found = [training for training in trainings if training.losses == title]
    diverged = sum(training.state != FINISHED for training in found)
    return f'{len(found)}, {diverged} diverged' if diverged else str(len(found))


def class_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The change of each class's IoU by the best CPG and by the simplest loss, thin classes first."""
    comparison, best = compare_seeds(rows, dataset), best_cpg(rows, dataset.config)
    if comparison is None or best is None:
        return None
    simplest = choose(rows, dataset.config, NEAR_BOUNDARY)
    titles = [title_of(losses) for losses in (best[1], simplest) if losses]
    shown = [title for title in titles if title in comparison.losses]
    names = {key.removeprefix(IOU) for each in comparison.trainings for key in each.values if key.startswith(IOU)}
    body = []
    for name in sorted(names, key=lambda name: (name not in dataset.thin_classes, name)):
        measure = Measure(IOU + name, name, '%')
        changes = [comparison.difference(losses, measure) for losses in shown]
        thin = 'yes' if name in dataset.thin_classes else ''
        body.append([name, thin, _text(comparison.mean(comparison.baseline, measure), ''), *map(_text, changes)])
        if simplest and len(shown) == 2:
            lead = _paired(rows, (dataset.config, best[1]), (dataset.config, simplest), measure)
            body[-1].append(_text(estimate(lead)))
    columns = ['class', 'thin', 'IoU with CE, %', *(f'Δ {losses}' for losses in shown)]
    if len(shown) == 2:
        columns.append('the first minus the second')
    return Table('classes', f'{dataset.name}: IoU by class', columns, body, [])


def tuning_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The scores of all weights with the tuning seed, None before any has been trained."""
    body = []
    for competitor in COMPETITORS:
        best, choices = choose(rows, dataset.config, competitor), candidates(rows, dataset.config, competitor)
        if not any(tuning_row(rows, dataset.config, losses) for losses in choices):
            continue
        edges = {choices[0]: ', the lowest', choices[-1]: ', the highest'}
        for losses in choices:
            mark = f'chosen{edges.get(losses, "")}' if losses == best else ''
            body.append([*split(losses), *_score_cells(tuning_row(rows, dataset.config, losses)), mark])
    if not body:
        return None
    base = ['none (CE alone)', '', *_score_cells(tuning_row(rows, dataset.config, 'base')), '']
    columns = ['added to CE', 'weight', *(f'{each.title}, {each.unit}' for each in PRIMARY), 'CPG, % of the loss', '']
    return Table('tuning', f'{dataset.name}: choosing weights, seed {TUNING_SEED}', columns, [base, *body], [])


def _score_cells(row: Row | None) -> list[str]:
    """The primary outcomes of a training run, and the share of the CPG loss in the total loss at its end."""
    if row is None:
        return [NOT_RUN] * len(PRIMARY) + ['']
    if row['state'] != FINISHED:
        return [row['state'].partition(':')[0]] * len(PRIMARY) + ['']
    share = f'{100 * float(row["cpg_share"]):.0f}' if row['cpg_share'] else ''
    return [*(f'{float(row[measure.key]):.2f}' for measure in PRIMARY), share]


def further_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The best CPG with BCE, with twice the iterations and with a growing λ; None before any of these."""
    best = best_cpg(rows, dataset.config)
    if best is None:
        return None
    competitor, cpg = best
    bce, twice, ramp = variants(dataset.config)
    questions = []
    with_bce = choose(rows, bce, competitor)
    if with_bce:
        questions += [(f'with BCE, weight {split(with_bce)[1]}', 'BCE', rows, (bce, with_bce), (bce, 'base'))]
    if rows_of(rows, twice, SEEDS):
        once = rows_of(rows, dataset.config, SEEDS[:1])
        questions += [
            ('with twice the iterations', 'CE, twice the iterations', rows, (twice, cpg), (twice, 'base')),
            ('with the usual iterations, seed 0', 'CE, seed 0', once, (dataset.config, cpg), (dataset.config, 'base')),
        ]
    questions += [('with a growing λ', 'with a constant λ', rows, (ramp, 'base'), (dataset.config, cpg))]
    body = []
    for title, reference, used, trained, other in questions:
        for measure in PRIMARY:
            mean = estimate(_paired(used, trained, other, measure))
            if mean:
                body.append([title, reference, measure.title, _text(mean), str(mean.count)])
    columns = [title_of(cpg), 'compared with', 'outcome', 'difference, points', 'seeds']
    return Table('further', f'{dataset.name}: does it hold otherwise?', columns, body, []) if body else None


def convergence_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """Mean mIoU in the last third of the training runs with CE and the best CPG, None if there are none yet."""
    body = []
    competitor, best = best_cpg(rows, dataset.config) or (None, None)
    for config in (dataset.config, *variants(dataset.config)[:2]):
        for losses, title in (('base', 'its own'), (best, f'+ {competitor.title}' if competitor else '')):
            found = [row for row in rows if row['config'] == config and row['losses'] == losses]
            curves = [json.loads(row['validations']) for row in found if row['state'] == FINISHED]
            if curves:
                means = [(points[0][0], fmean(miou for _, miou, _ in points)) for points in zip(*curves, strict=True)]
                text = ', '.join(f'{iteration}: {miou:.2f}' for iteration, miou in means)
                body.append([f'`{config}`', title, str(len(curves)), text, f'{means[-1][1] - means[0][1]:+.2f}'])
    columns = ['config', 'losses', 'runs', 'mean mIoU by iteration, %', 'rise']
    return Table('convergence', f'{dataset.name}: convergence', columns, body, []) if body else None


def _text(found: Estimate | None, sign: str = '+') -> str:
    return found.text(2, sign) if found else NOT_RUN
