"""The plan of the evidence study, docs/evidence.md: what is trained, in which order, and how weights are chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from ..cli.errors import UserError
from .comparison import Measure
from .work_dirs import FINISHED

TUNING_SEED = 100
SEEDS = (0, 1, 2, 3, 4)
PRIMARY = (Measure('mIoU', 'mIoU', '%'), Measure('mBIoU', 'Boundary IoU', '%'))
MAX_RISE = 0.5  # points of mIoU over the last third of a converged training run
LEAST_IOU = 1.0  # %, of a class that the network has found
IOU = 'IoU: '  # begins the columns of the classes
# A row of the record.
Row = dict[str, str]


class Dataset(NamedTuple):
    """A dataset of the study, with its config and its thin classes."""

    name: str
    config: str
    thin_classes: tuple[str, ...]


DATASETS = {
    'sstem': Dataset('ssTEM', 'unet_fcn_1xb4-2400i_sstem-128x128', ('membrane', 'synapse')),
    'camvid': Dataset(
        'CamVid',
        'efficientnet-lite0_segformer_1xb4-1800i_camvid-192x256',
        ('pole', 'sign symbol', 'fence', 'pedestrian', 'bicyclist'),
    ),
}


class Competitor(NamedTuple):
    """A loss with candidate weights, e.g. 'CPGLoss' with the options ',ksize=3'."""

    title: str
    name: str
    options: str
    weights: tuple[float, ...]

    @property
    def losses(self) -> list[str]:
        """Losses on the command line of ``compare_losses.py``, one for each weight."""
        return [self.with_weight(weight) for weight in self.weights]

    def with_weight(self, weight: float) -> str:
        """The losses with a weight, rounded to one digit unless it is one of the planned ones."""
        rounded = weight if weight in self.weights else float(f'{weight:.0e}')
        return f'base+{self.name}:{rounded:g}{self.options}'


CPG_WEIGHTS = (0.05, 0.3, 2.0)
CPG = tuple(Competitor(f'CPG, ksize {ksize}', 'CPGLoss', f',ksize={ksize}', CPG_WEIGHTS) for ksize in (3, 5, 7))
NEAR_BOUNDARY = Competitor('CE near boundaries', 'BoundaryCrossEntropyLoss', '', (0.1, 0.5, 3.0))
# The added losses have no class weights, so they also change the balance of the classes, as this one does.
UNWEIGHTED = Competitor('CE without class weights', 'CrossEntropyLoss', ',loss_name=loss_plain', (0.3, 1.5, 8.0))
OTHERS = (
    Competitor('RMI', 'RMILoss', '', (0.015, 0.08, 0.5)),
    Competitor('Active Boundary', 'ActiveBoundaryLoss', ',preset=official', (1.0, 6.0, 30.0)),
    Competitor('Dice', 'DiceLoss', ',use_sigmoid=False', (1.0, 5.0, 25.0)),
)
# In the order of their runs.
GROUPS = ((*CPG, NEAR_BOUNDARY), (UNWEIGHTED,), OTHERS)
COMPETITORS = tuple(competitor for group in GROUPS for competitor in group)


class Stage(NamedTuple):
    """Training runs of a config with all combinations of losses and seeds; 'base' is always included.

    Attributes:
        own: What the config itself must train with, in terms of the study's main config, e.g. 'base+CPGLoss:1,ksize=3'.
    """

    config: str
    seeds: tuple[int, ...]
    losses: list[str]
    own: str = 'base'


def stages(dataset: Dataset, read_rows: Callable[[], list[Row]]) -> Iterator[Stage]:
    """Yield the training runs of a dataset in order.

    Args:
        dataset: The dataset.
        read_rows: Reads the record, from which weights are chosen as the study progresses. A competitor without a
            choice is skipped.

    Raises:
        UserError: A baseline has no result or has not converged, or the first one missed a class with a seed.
    """
    config = dataset.config
    yield Stage(config, (TUNING_SEED,), ['base'])
    _require_convergence(read_rows(), config)
    yield Stage(config, SEEDS, ['base'])
    _require_every_class(read_rows(), config)
    for competitors in GROUPS:
        yield from _tune(config, competitors, read_rows)
        yield Stage(config, SEEDS, _chosen(read_rows(), config, competitors))
        second = [second_choice(read_rows(), config, competitor) for competitor in competitors]
        if any(second):
            yield Stage(config, SEEDS, ['base', *filter(None, second)])
    best = best_cpg(read_rows(), config)
    if best is None:
        return
    competitor, losses = best
    bce, twice, ramp = variants(config)
    yield Stage(bce, (TUNING_SEED,), ['base'])
    _require_convergence(read_rows(), bce)
    yield from _tune(bce, [competitor], read_rows)
    yield Stage(bce, SEEDS, _chosen(read_rows(), bce, [competitor]))
    yield Stage(twice, SEEDS[:1], [losses])
    yield Stage(ramp, SEEDS, ['base'], own=losses)


def _tune(config: str, competitors: Sequence[Competitor], read_rows: Callable[[], list[Row]]) -> Iterator[Stage]:
    yield Stage(config, (TUNING_SEED,), [losses for competitor in competitors for losses in competitor.losses])
    rows = read_rows()
    found = [losses for competitor in competitors for losses in candidates(rows, config, competitor)]
    beyond = [losses for losses in found if all(losses not in competitor.losses for competitor in competitors)]
    if beyond:
        yield Stage(config, (TUNING_SEED,), beyond)


def variants(config: str) -> tuple[str, str, str]:
    """The configs with binary cross-entropy, with twice the iterations, and with a λ that grows."""
    return f'{config}_bce', f'{config}_2x', f'{config}_ramp'


def _require_convergence(rows: list[Row], config: str) -> None:
    base = tuning_row(rows, config, 'base')
    if base is None or base['state'] != FINISHED:
        raise UserError(f"'{config}' has no result with its own loss alone, so nothing else is trained.")
    miou = [miou for _, miou, _ in json.loads(base['validations'])]
    if miou[-1] - miou[0] >= MAX_RISE:
        raise UserError(
            f"'{config}' has not converged: mIoU rises from {miou[0]} to {miou[-1]} over the last third with "
            'its own loss alone. Give it more iterations.'
        )


def _require_every_class(rows: list[Row], config: str) -> None:
    for row in rows_of(rows, config, SEEDS):
        missed = missed_classes(row)
        if row['losses'] == 'base' and missed:
            raise UserError(
                f"'{config}' missed the class '{missed[0]}' with its own loss alone and seed {row['seed']}: its IoU is "
                f'below {LEAST_IOU} %. Whether a network finds a class would hide what a loss changes.'
            )


def missed_classes(row: Row) -> list[str]:
    """The classes that the network of a row did not find."""
    ious = {key.removeprefix(IOU): value for key, value in row.items() if key.startswith(IOU) and value}
    return [name for name, value in ious.items() if float(value) < LEAST_IOU]


def _chosen(rows: list[Row], config: str, competitors: Sequence[Competitor]) -> list[str]:
    found = [choose(rows, config, competitor) for competitor in competitors]
    return ['base', *filter(None, found)]


def choose(rows: list[Row], config: str, competitor: Competitor) -> str | None:
    """Choose the losses with the best mean of the primary outcomes with the tuning seed, of equals the lowest weight.

    Returns:
        One of :func:`candidates`; None if one has not been trained yet, or all diverged.
    """
    return _best(rows, config, candidates(rows, config, competitor))


def second_choice(rows: list[Row], config: str, competitor: Competitor) -> str | None:
    """The next best losses of a competitor whose chosen ones missed a class with one of the seeds, None for others."""
    chosen = choose(rows, config, competitor)
    if not any(row['losses'] == chosen and missed_classes(row) for row in rows_of(rows, config, SEEDS)):
        return None
    return _best(rows, config, [losses for losses in candidates(rows, config, competitor) if losses != chosen])


def candidates(rows: list[Row], config: str, competitor: Competitor) -> list[str]:
    """The planned losses, and one beyond the lowest or highest weight if that is the best of the planned ones."""
    choices, weights = competitor.losses, competitor.weights
    best = _best(rows, config, choices)
    if best == choices[0]:
        return [competitor.with_weight(weights[0] ** 2 / weights[1]), *choices]
    if best == choices[-1]:
        return [*choices, competitor.with_weight(weights[-1] ** 2 / weights[-2])]
    return choices


def best_cpg(rows: list[Row], config: str) -> tuple[Competitor, str] | None:
    """The kernel of CPG that did best with the tuning seed, and its losses; None before all have been trained."""
    chosen = {losses: competitor for competitor in CPG if (losses := choose(rows, config, competitor))}
    losses = _best(rows, config, [*chosen]) if len(chosen) == len(CPG) else None
    return None if losses is None else (chosen[losses], losses)


def _best(rows: list[Row], config: str, choices: list[str]) -> str | None:
    tuned = {losses: tuning_row(rows, config, losses) for losses in choices}
    if None in tuned.values():
        return None
    scores = {losses: tuning_score(row) for losses, row in tuned.items() if row and row['state'] == FINISHED}
    return max(scores, key=lambda losses: scores[losses], default=None)


def tuning_score(row: Row) -> float:
    """The mean of the primary outcomes of a training run, so rounded that equal ones are equal."""
    return round(fmean(float(row[measure.key]) for measure in PRIMARY), 4)


def tuning_row(rows: list[Row], config: str, losses: str) -> Row | None:
    """The training run with the tuning seed, None if it has not ended."""
    return next((row for row in rows_of(rows, config, (TUNING_SEED,)) if row['losses'] == losses), None)


def rows_of(rows: list[Row], config: str, seeds: Sequence[int]) -> list[Row]:
    """The rows of a config with some seeds."""
    return [row for row in rows if row['config'] == config and int(row['seed']) in seeds]


def planned(rows: list[Row], dataset: Dataset) -> int:
    """Number of planned training runs for a dataset, if weights are chosen for every competitor."""
    tuning = 1 + sum(len(candidates(rows, dataset.config, competitor)) for competitor in COMPETITORS)
    second = [second_choice(rows, dataset.config, competitor) for competitor in COMPETITORS]
    seeds = len(SEEDS) * (1 + len(COMPETITORS) + len([*filter(None, second)]))
    best = best_cpg(rows, dataset.config)
    bce_tuning = 1 + len(candidates(rows, variants(dataset.config)[0], best[0] if best else CPG[0]))
    bce_seeds, twice, ramp = 2 * len(SEEDS), 2, len(SEEDS)
    return tuning + seeds + bce_tuning + bce_seeds + twice + ramp
