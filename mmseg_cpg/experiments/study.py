"""The evidence study, docs/evidence.md: its plan and its statistics."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from scipy.stats import ttest_1samp

from ..cli.errors import UserError
from .comparison import Comparison, Measure
from .intervals import Estimate, estimate
from .records import read_row
from .tables import Table
from .work_dirs import FINISHED

TUNING_SEED = 100
SEEDS = (0, 1, 2, 3, 4)
PRIMARY = (Measure('mIoU', 'mIoU', '%'), Measure('mBIoU', 'Boundary IoU', '%'))
SECONDARY = (Measure('mF_1px', 'F-score 1 px', '%'), Measure('mF_3px', 'F-score 3 px', '%'))
ALPHA = 0.05
MAX_RISE = 0.5  # points of mIoU over the last third of a converged training
LEAST_IOU = 1.0  # %, of a class that the network has found
NOT_RUN = 'not run'
IOU = 'IoU: '  # begins the columns of the classes
# A row of the record.
Row = dict[str, str]


class Dataset(NamedTuple):
    """A dataset of the study, with its config and its thin classes."""

    name: str
    config: str
    thin_classes: tuple[str, ...]


DATASETS = {
    'camvid': Dataset(
        'CamVid',
        'efficientnet-lite0_segformer_1xb4-1800i_camvid-192x256',
        ('pole', 'sign symbol', 'fence', 'pedestrian', 'bicyclist'),
    ),
    'sstem': Dataset('ssTEM', 'unet_fcn_1xb4-2400i_sstem-128x128', ('membrane', 'synapse')),
}


class Competitor(NamedTuple):
    """A loss with candidate weights, e.g. 'CPGLoss' with the options ',ksize=3'."""

    name: str
    options: str
    weights: tuple[float, ...]

    @property
    def losses(self) -> list[str]:
        """Losses on the command line of ``compare_losses.py``, one for each weight."""
        return [f'base+{self.name}:{weight:g}{self.options}' for weight in self.weights]

    @property
    def title(self) -> str:
        """Title in tables."""
        return self.name + self.options


CPG_WEIGHTS = (0.05, 0.3, 2.0)
CPG = tuple(Competitor('CPGLoss', f',ksize={ksize}', CPG_WEIGHTS) for ksize in (3, 5, 7))
NEAR_BOUNDARY = Competitor('BoundaryCrossEntropyLoss', '', (0.1, 0.5, 3.0))
OTHERS = (
    Competitor('RMILoss', '', (0.05, 0.3, 1.5)),
    Competitor('ActiveBoundaryLoss', ',preset=official', (0.1, 0.5, 3.0)),
    Competitor('DiceLoss', ',use_sigmoid=False', (0.1, 0.5, 3.0)),
)
# In the order of their trainings.
GROUPS = ((*CPG, NEAR_BOUNDARY), OTHERS)
# Each with CE, and the best CPG with the simplest.
NUM_COMPARISONS = len(PRIMARY) * (sum(map(len, GROUPS)) + 1)


class Stage(NamedTuple):
    """Trainings of a config with all combinations of losses and seeds; 'base' is always included."""

    config: str
    seeds: tuple[int, ...]
    losses: list[str]


def stages(dataset: Dataset, read_rows: Callable[[], list[Row]]) -> Iterator[Stage]:
    """Yield the training runs of a dataset in order.

    Args:
        dataset: The dataset.
        read_rows: Reads the record, from which weights are chosen as the study progresses. A competitor without a
            choice is skipped.

    Raises:
        UserError: The first baseline has no result or has not converged, or the baseline missed a class with a seed.
    """
    yield Stage(dataset.config, (TUNING_SEED,), ['base'])
    _require_convergence(read_rows(), dataset.config)
    yield Stage(dataset.config, SEEDS, ['base'])
    _require_every_class(read_rows(), dataset.config)
    for competitors in GROUPS:
        yield Stage(dataset.config, (TUNING_SEED,), _candidates(competitors))
        yield Stage(dataset.config, SEEDS, _chosen(read_rows(), dataset.config, competitors))
    best = best_cpg(read_rows(), dataset.config)
    if best is None:
        return
    tuned = [competitor for competitor in CPG if best in competitor.losses]
    bce, twice, ramp = variants(dataset.config)
    yield Stage(bce, (TUNING_SEED,), tuned[0].losses)
    yield Stage(bce, SEEDS, _chosen(read_rows(), bce, tuned))
    yield Stage(twice, SEEDS[:1], [best])
    yield Stage(ramp, SEEDS, ['base'])


def variants(config: str) -> tuple[str, str, str]:
    """The configs with binary cross-entropy, with twice the iterations, and with a λ that grows."""
    return f'{config}_bce', f'{config}_2x', f'{config}_ramp'


def _require_convergence(rows: list[Row], config: str) -> None:
    base = tuning_scores(rows, config, None).get(0.0)
    if base is None:
        raise UserError(f"'{config}' has no result with cross-entropy alone, so nothing else is trained.")
    miou = [miou for _, miou, _ in json.loads(base['validations'])]
    if miou[-1] - miou[0] >= MAX_RISE:
        raise UserError(
            f"'{config}' has not converged: mIoU rises from {miou[0]} to {miou[-1]} over the last third with "
            'cross-entropy alone. Give it more iterations.'
        )


def _require_every_class(rows: list[Row], config: str) -> None:
    for row in _of(rows, config, SEEDS):
        for key, value in row.items():
            if row['losses'] == 'base' and key.startswith(IOU) and value and float(value) < LEAST_IOU:
                name = key.removeprefix(IOU)
                raise UserError(
                    f"'{config}' missed the class '{name}' with cross-entropy alone and seed {row['seed']}: its IoU is "
                    f'{value} %. Whether a network finds a class would hide what a loss changes.'
                )


def _chosen(rows: list[Row], config: str, competitors: Sequence[Competitor]) -> list[str]:
    found = [choose(rows, config, competitor.losses) for competitor in competitors]
    return ['base', *filter(None, found)]


def choose(rows: list[Row], config: str, losses: list[str]) -> str | None:
    """Choose the losses with the best mean of the primary outcomes with the tuning seed.

    Returns:
        One of ``losses``; None if one has not been trained yet, or all diverged.
    """
    tuned = {row['losses']: row for row in _of(rows, config, (TUNING_SEED,))}
    if not tuned.keys() >= set(losses):
        return None
    scores = {each: tuning_score(tuned[each]) for each in losses if tuned[each]['state'] == FINISHED}
    return max(scores, key=lambda each: scores[each], default=None)


def best_cpg(rows: list[Row], config: str) -> str | None:
    """The CE + CPG that did best with the tuning seed, with its ksize and weight; None before all have been trained."""
    return choose(rows, config, _candidates(CPG))


def _candidates(competitors: Sequence[Competitor]) -> list[str]:
    return [losses for competitor in competitors for losses in competitor.losses]


def tuning_score(row: Row) -> float:
    """The mean of the primary outcomes of a training run."""
    return fmean(float(row[measure.key]) for measure in PRIMARY)


def _of(rows: list[Row], config: str, seeds: Sequence[int]) -> list[Row]:
    return [row for row in rows if row['config'] == config and int(row['seed']) in seeds]


class Difference(NamedTuple):
    """The difference of a primary outcome: the mean of paired differences, p, and p after Holm's correction."""

    losses: str
    reference: str
    measure: Measure
    estimate: Estimate
    p: float
    p_holm: float

    @property
    def is_significant(self) -> bool:
        """Whether it is significant after the correction."""
        return self.p_holm < ALPHA


def compare_seeds(rows: list[Row], dataset: Dataset) -> Comparison | None:
    """Compare the losses over the seeds of the study; None before the baseline has been trained."""
    found = [row for row in _of(rows, dataset.config, SEEDS) if row['losses'] != 'base']
    base = [row for row in _of(rows, dataset.config, SEEDS) if row['losses'] == 'base']
    if not base:
        return None
    trainings = [read_row(row, '') for row in [*base, *found]]
    return Comparison(dataset.name, trainings, [*PRIMARY, *SECONDARY], [])


def differences(rows: list[Row], dataset: Dataset) -> list[Difference]:
    """All primary comparisons of a dataset for which all seeds have been trained."""
    trained = dict.fromkeys(row['losses'] for row in _of(rows, dataset.config, SEEDS))
    pairs = [(losses, 'base') for losses in trained if losses != 'base']
    cpg = best_cpg(rows, dataset.config)
    simplest = choose(rows, dataset.config, NEAR_BOUNDARY.losses)
    if cpg in trained and simplest in trained:
        pairs.append((cpg, simplest))
    found: list[Difference] = []
    for losses, reference in pairs:
        for measure in PRIMARY:
            values = _paired(rows, (dataset.config, losses), (dataset.config, reference), measure)
            mean = estimate(values)
            if mean is not None and mean.count == len(SEEDS):
                p = float(ttest_1samp(values, 0).pvalue)
                found.append(Difference(losses, reference, measure, mean, p, p))
    corrected = holm([each.p for each in found], NUM_COMPARISONS)
    return [each._replace(p_holm=p) for each, p in zip(found, corrected, strict=True)]


def _paired(rows: list[Row], trained: tuple[str, str], reference: tuple[str, str], measure: Measure) -> list[float]:
    """The differences of two (config, losses) for the seeds that both have."""
    values, expected = (
        {
            row['seed']: float(row[measure.key])
            for row in _of(rows, config, SEEDS)
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


def tuning_scores(rows: list[Row], config: str, competitor: Competitor | None) -> dict[float, Row]:
    """The finished training runs with the tuning seed by weight; for ``competitor=None`` that of CE alone, as 0."""
    tuned = {row['losses']: row for row in _of(rows, config, (TUNING_SEED,)) if row['state'] == FINISHED}
    losses = {0.0: 'base'} if competitor is None else dict(zip(competitor.weights, competitor.losses, strict=True))
    return {weight: tuned[each] for weight, each in losses.items() if each in tuned}


def tuning_table(rows: list[Row], dataset: Dataset) -> Table:
    """The scores of all weights with the tuning seed."""
    tuned = {row['losses']: row for row in _of(rows, dataset.config, (TUNING_SEED,))}
    body = []
    for competitor in (competitor for group in GROUPS for competitor in group):
        best = choose(rows, dataset.config, competitor.losses)
        for weight, losses in zip(competitor.weights, competitor.losses, strict=True):
            cells = _score_cells(tuned.get(losses))
            body.append([competitor.title, f'{weight:g}', *cells, 'chosen' if losses == best else ''])
    base = ['none (CE alone)', '', *_score_cells(tuned.get('base')), '']
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


def differences_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The primary comparisons, None if there are none yet."""
    found = differences(rows, dataset)
    if not found:
        return None
    columns = ['losses', 'compared with', 'outcome', 'difference, points', 'p', 'p (Holm)', 'significant']
    body = [
        [
            each.losses,
            each.reference,
            each.measure.title,
            each.estimate.text(2, '+'),
            f'{each.p:.3f}',
            f'{each.p_holm:.3f}',
            'yes' if each.is_significant else 'no',
        ]
        for each in found
    ]
    note = f'Mean of {len(SEEDS)} paired differences ± half its 95 % interval; Holm over {NUM_COMPARISONS} comparisons.'
    return Table('differences', f'{dataset.name}: primary comparisons', columns, body, [note])


def further_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """Differences beyond the primary comparisons: with BCE, with twice the iterations, with a growing λ."""
    best = best_cpg(rows, dataset.config)
    if best is None:
        return None
    bce, twice, ramp = variants(dataset.config)
    with_bce = dict.fromkeys(row['losses'] for row in _of(rows, bce, SEEDS) if row['losses'] != 'base')
    questions = [
        *((losses.replace('base', 'BCE'), (bce, losses), 'BCE', (bce, 'base')) for losses in with_bce),
        (f'{best}, twice the iterations', (twice, best), 'base, twice the iterations', (twice, 'base')),
        (f'{best}, growing λ', (ramp, 'base'), best, (dataset.config, best)),
    ]
    body = []
    for title, trained, other_title, other in questions:
        for measure in PRIMARY:
            mean = estimate(_paired(rows, trained, other, measure))
            if mean is not None:
                body.append([title, other_title, measure.title, mean.text(2, '+'), str(mean.count)])
    columns = ['losses', 'compared with', 'outcome', 'difference, points', 'seeds']
    return Table('further', f'{dataset.name}: further comparisons', columns, body, []) if body else None


def class_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """The change of the IoU of each class, thin classes first; None without a pair of seeds."""
    comparison = compare_seeds(rows, dataset)
    if comparison is None:
        return None
    others = [losses for losses in comparison.losses if comparison.difference(losses, PRIMARY[0])]
    if not others:
        return None
    names = [name.removeprefix(IOU) for name in comparison.trainings[0].values if name.startswith(IOU)]
    body = []
    for name in sorted(names, key=lambda name: name not in dataset.thin_classes):
        measure = Measure(IOU + name, name, '%')
        mean = comparison.mean(comparison.baseline, measure)
        gains = [comparison.difference(losses, measure) for losses in others]
        thin = 'yes' if name in dataset.thin_classes else ''
        body.append([name, thin, mean.text(2) if mean else '', *(each.text(2, '+') if each else '' for each in gains)])
    columns = ['class', 'thin', f'IoU, %: {comparison.baseline}', *(f'Δ {losses}' for losses in others)]
    return Table('classes', f'{dataset.name}: gain by class', columns, body, [])


def convergence_table(rows: list[Row], dataset: Dataset) -> Table | None:
    """Mean mIoU in the last third of the training runs with cross-entropy alone, None if there are none yet."""
    bce, twice, _ = variants(dataset.config)
    configs = (dataset.config, bce, twice)
    found = [row for row in rows if row['config'] in configs and row['losses'] == 'base' and row['state'] == FINISHED]
    by_config: dict[str, list] = {}
    for row in found:
        by_config.setdefault(row['config'], []).append(json.loads(row['validations']))
    body = [
        [
            f'`{config}`',
            str(len(curves)),
            ', '.join(f'{at}: {fmean(values):.2f}' for at, values in _by_progress(curves)),
        ]
        for config, curves in by_config.items()
    ]
    columns = ['config, its own losses', 'runs', 'mean mIoU by iteration, %']
    return Table('convergence', f'{dataset.name}: convergence', columns, body, []) if body else None


def _by_progress(curves: list) -> list[tuple[int, list[float]]]:
    values: dict[int, list[float]] = {}
    for curve in curves:
        for progress, miou, _ in curve:
            values.setdefault(progress, []).append(miou)
    return sorted(values.items())


def status(rows: list[Row]) -> Table:
    """Numbers of planned, ended and diverged training runs by dataset."""
    body = []
    for dataset in DATASETS.values():
        found = [row for row in rows if row['config'].startswith(dataset.config)]
        diverged = sum(row['state'] != FINISHED for row in found)
        body.append([dataset.name, str(len(found)), str(planned(dataset)), str(diverged)])
    return Table('status', 'Runs so far', ['data', 'ended', 'planned', 'of those ended, diverged'], body, [])


def planned(dataset: Dataset) -> int:
    """Number of planned training runs for a dataset, if weights are chosen for every competitor."""
    competitors = [competitor for group in GROUPS for competitor in group]
    tuning = 1 + sum(len(competitor.weights) for competitor in competitors)
    seeds = len(SEEDS) * (1 + len(competitors))
    bce = 1 + len(CPG_WEIGHTS) + 2 * len(SEEDS)
    twice, ramp = 2, len(SEEDS)
    return tuning + seeds + bce + twice + ramp
