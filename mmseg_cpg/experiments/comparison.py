"""The tables of a comparison of losses over several seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from textwrap import shorten
from typing import NamedTuple

from .costs import WARM_UP_ITERS
from .intervals import Estimate, estimate
from .tables import Table

NOTHING = '–'
STATE_LETTERS = 120


class Measure(NamedTuple):
    """What a loss is judged by: its name in :class:`Training`, its title, its unit, and how many digits are shown."""

    key: str
    title: str
    unit: str
    digits: int = 2


COSTS = (Measure('step_ms', 'step', 'ms', 1), Measure('memory_mib', 'memory', 'MiB', 0))


class Training(NamedTuple):
    """A training of a comparison.

    ``losses`` is what its final head was trained with, ``state`` how it stands, ``folder`` its work dir. ``values`` are
    its measures by name, empty unless it is finished.
    """

    losses: str
    seed: int
    state: str
    folder: str
    values: dict


class Comparison(NamedTuple):
    """What a comparison found.

    Args:
        name (str): Name of the config.
        trainings (list[Training]): The trainings, those of the baseline first.
        scores (list[Measure]): What the losses are judged by besides their costs.
        notes (list[str]): What to know of this comparison.
    """

    name: str
    trainings: list
    scores: list
    notes: list

    @property
    def baseline(self) -> str:
        """The losses that the others are compared with."""
        return self.trainings[0].losses

    @property
    def losses(self) -> list[str]:
        """All losses, the baseline first."""
        return list(dict.fromkeys(training.losses for training in self.trainings))

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return sorted({training.seed for training in self.trainings})

    @property
    def measures(self) -> list[Measure]:
        """Scores and costs."""
        return [*self.scores, *COSTS]

    def values(self, losses: str, measure: Measure) -> dict[int, float]:
        """A measure of the finished trainings with some losses, by seed (dict[int, float])."""
        found = {each.seed: each.values.get(measure.key) for each in self.trainings if each.losses == losses}
        return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}

    def mean(self, losses: str, measure: Measure) -> Estimate | None:
        """The mean over the seeds (Estimate), None without a finished training."""
        return estimate([*self.values(losses, measure).values()])

    def differences(self, losses: str, measure: Measure) -> dict[int, float]:
        """What the losses change, seed by seed: their measure minus the baseline's (dict[int, float])."""
        theirs = self.values(self.baseline, measure)
        return {seed: value - theirs[seed] for seed, value in self.values(losses, measure).items() if seed in theirs}

    def difference(self, losses: str, measure: Measure) -> Estimate | None:
        """The mean of the differences (Estimate), None for the baseline itself and without a pair of equal seed."""
        return None if losses == self.baseline else estimate([*self.differences(losses, measure).values()])

    def extra_cost(self, losses: str, measure: Measure) -> Estimate | None:
        """The difference of a cost in percent of the baseline's mean (Estimate), None where there is none."""
        found, theirs = self.difference(losses, measure), self.mean(self.baseline, measure)
        if found is None or theirs.mean <= 0:
            return None
        factor = 100 / theirs.mean
        return Estimate(factor * found.mean, found.margin and factor * found.margin, found.count)

    def table(self) -> Table:
        """The losses as a table to read."""
        columns = ['losses', 'seeds']
        for measure in self.scores:
            columns += [f'{measure.title}, {measure.unit}', f'Δ {measure.title}']
        columns += [f'{measure.title}, {measure.unit}' for measure in COSTS]
        rows = []
        for losses in self.losses:
            row = [losses + ' (baseline)' * (losses == self.baseline), self._count(losses)]
            for measure in self.scores:
                row.append(_text(self.mean(losses, measure), measure.digits))
                row.append(_text(self.difference(losses, measure), measure.digits, '+'))
            for measure in COSTS:
                extra = self.extra_cost(losses, measure)
                text = _text(self.mean(losses, measure), measure.digits)
                row.append(f'{text} ({extra.text(0, "+")} %)' if extra else text)
            rows.append(row)
        notes = [*self._explain(), *self.notes]
        return Table('compare', f'{self.name}: losses compared', columns, rows, notes)

    def numbers(self) -> Table:
        """The same with a number in each cell, for CSV."""
        columns = ['losses', 'seeds']
        for measure in self.measures:
            name = f'{measure.title}, {measure.unit}'
            columns += [name, f'{name}: ±', f'{name}: difference', f'{name}: difference ±']
        rows = []
        for losses in self.losses:
            row = [losses, str(self._num_finished(losses))]
            for measure in self.measures:
                for found in (self.mean(losses, measure), self.difference(losses, measure)):
                    row += [_number(found and found.mean), _number(found and found.margin)]
            rows.append(row)
        return Table('compare', '', columns, rows, [])

    def list_of_trainings(self) -> Table:
        """Each training as a row."""
        columns = ['losses', 'seed', 'state', *(f'{each.title}, {each.unit}' for each in self.measures)]
        columns += ['wait for data, ms', 'work dir']
        rows = [
            [
                each.losses,
                str(each.seed),
                shorten(each.state.replace('|', '/'), STATE_LETTERS),  # a message may hold what ends a cell
                *(_number(each.values.get(measure.key), measure.digits) for measure in self.measures),
                _number(each.values.get('data_ms'), 1),
                each.folder,
            ]
            for each in self.trainings
        ]
        return Table('compare_trainings', 'The trainings', columns, rows, [])

    def _num_finished(self, losses: str) -> int:
        return sum(bool(each.values) for each in self.trainings if each.losses == losses)

    def _count(self, losses: str) -> str:
        finished, total = self._num_finished(losses), len(self.seeds)
        return str(finished) if finished == total else f'{finished} of {total}'

    def _explain(self) -> Iterator[str]:
        """What the numbers are."""
        yield (
            'mIoU, Boundary IoU and F-score are those of the validation at the end of training; ± is half the width of '
            "the 95 % interval of their mean over seeds (Student's t). Δ is the mean of the differences to the "
            'baseline with the same seed, ± its own interval. Each interval stands for itself: of 20 losses without '
            'any effect about one leaves out 0 by chance.'
        )
        if len(self.seeds) == 1:
            yield 'One seed does not tell how much seeds vary, so there is no interval: give more --seeds.'
        elif len(self.seeds) == 2:
            yield 'Two seeds make wide intervals (± 9 standard deviations; three ± 2.5, five ± 1.2): give more --seeds.'
        yield (
            'step is the time of a training step without the wait for data, the median of what was logged after the '
            f'first {WARM_UP_ITERS} iterations (of all in a shorter training); what else the machine did at the time '
            'is in it. memory is the highest that was logged before the first validation: on '
            'a GPU what PyTorch allocated, on CPU the peak resident memory of the process, Python included.'
        )


def _text(found: Estimate | None, digits: int, sign: str = '') -> str:
    return found.text(digits, sign) if found else NOTHING


def _number(value: float | None, digits: int = 4) -> str:
    return '' if value is None else f'{value:.{digits}f}'
