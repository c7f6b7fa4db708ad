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
    """A quantity to compare: its key in ``Training.values``, title, unit, and number of digits to show."""

    key: str
    title: str
    unit: str
    digits: int = 2


COSTS = (Measure('step_ms', 'step', 'ms', 1), Measure('memory_mib', 'memory', 'MiB', 0))


class Training(NamedTuple):
    """A training run of a comparison.

    Attributes:
        losses: Losses of its final head, as in tables.
        seed: Its seed.
        state: ``FINISHED``, or why it has no result.
        folder: Name of its work dir.
        values: Measures by key, empty unless it is finished.
    """

    losses: str
    seed: int
    state: str
    folder: str
    values: dict


class Comparison(NamedTuple):
    """The results of a comparison.

    Attributes:
        name: Name of the config.
        trainings: The training runs, the baseline's first.
        scores: Measures to compare in addition to costs.
        notes: Notes below the table.
    """

    name: str
    trainings: list[Training]
    scores: list[Measure]
    notes: list[str]

    @property
    def baseline(self) -> str:
        """The losses that all others are compared with."""
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
        """A measure of the finished training runs with these losses, by seed."""
        found = {each.seed: each.values.get(measure.key) for each in self.trainings if each.losses == losses}
        return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}

    def mean(self, losses: str, measure: Measure) -> Estimate | None:
        """The mean over seeds, None without a finished training run."""
        return estimate([*self.values(losses, measure).values()])

    def differences(self, losses: str, measure: Measure) -> dict[int, float]:
        """Paired differences by seed: the measure of these losses minus that of the baseline."""
        baseline = self.values(self.baseline, measure)
        values = self.values(losses, measure)
        return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}

    def difference(self, losses: str, measure: Measure) -> Estimate | None:
        """The mean of the paired differences, None for the baseline and without a pair of equal seeds."""
        return None if losses == self.baseline else estimate([*self.differences(losses, measure).values()])

    def extra_cost(self, losses: str, measure: Measure) -> Estimate | None:
        """The difference of a cost in percent of the baseline's mean, None if there is none."""
        found, baseline = self.difference(losses, measure), self.mean(self.baseline, measure)
        if found is None or baseline is None or baseline.mean <= 0:
            return None
        factor = 100 / baseline.mean
        margin = None if found.margin is None else factor * found.margin
        return Estimate(factor * found.mean, margin, found.count)

    def table(self) -> Table:
        """A table of the losses for reading."""
        columns = ['losses', 'seeds']
        for measure in self.scores:
            columns += [f'{measure.title}, {measure.unit}', f'Δ {measure.title}']
        columns += [f'{measure.title}, {measure.unit}' for measure in COSTS]
        rows = []
        for losses in self.losses:
            row = [f'{losses} (baseline)' if losses == self.baseline else losses, self._count(losses)]
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
        """The same table with one number per cell, for CSV."""
        columns = ['losses', 'seeds']
        for measure in self.measures:
            name = f'{measure.title}, {measure.unit}'
            columns += [name, f'{name}: ±', f'{name}: difference', f'{name}: difference ±']
        rows = []
        for losses in self.losses:
            row = [losses, str(self._num_finished(losses))]
            for measure in self.measures:
                for found in (self.mean(losses, measure), self.difference(losses, measure)):
                    row += [_number(found.mean), _number(found.margin)] if found else ['', '']
            rows.append(row)
        return Table('compare', '', columns, rows, [])

    def list_of_trainings(self) -> Table:
        """A table with a row for each training run."""
        columns = ['losses', 'seed', 'state', *(f'{each.title}, {each.unit}' for each in self.measures)]
        columns += ['wait for data, ms', 'work dir']
        rows = [
            [
                each.losses,
                str(each.seed),
                shorten(each.state.replace('|', '/'), STATE_LETTERS),  # '|' would end the cell
                *(_number(each.values.get(measure.key), measure.digits) for measure in self.measures),
                _number(each.values.get('data_ms'), 1),
                each.folder,
            ]
            for each in self.trainings
        ]
        return Table('compare_trainings', 'The training runs', columns, rows, [])

    def _num_finished(self, losses: str) -> int:
        return sum(bool(each.values) for each in self.trainings if each.losses == losses)

    def _count(self, losses: str) -> str:
        finished, total = self._num_finished(losses), len(self.seeds)
        return str(finished) if finished == total else f'{finished} of {total}'

    def _explain(self) -> Iterator[str]:
        """Yield notes that define the numbers."""
        yield (
            'mIoU, Boundary IoU and F-score are those of the validation at the end of training; ± is half the width of '
            "the 95 % confidence interval of their mean over seeds (Student's t). Δ is the mean of the paired "
            'differences from the baseline with the same seed, ± its interval. Intervals are not corrected for '
            'multiple comparisons: among 20 losses without any effect, about one interval excludes 0 by chance.'
        )
        if len(self.seeds) == 1:
            yield 'A confidence interval needs at least two seeds: add --seeds.'
        elif len(self.seeds) == 2:
            yield 'Intervals of two seeds are wide (± 9 standard deviations; three ± 2.5, five ± 1.2): add --seeds.'
        yield (
            'step is the time of a training step without waiting for data: the median of the logged values after the '
            f'first {WARM_UP_ITERS} iterations (of all in a shorter run). It includes the effect of other load on '
            'the machine. memory is the maximum logged before the first validation: on a GPU the memory allocated by '
            'PyTorch, on a CPU the peak resident memory of the process, including Python.'
        )


def _text(found: Estimate | None, digits: int, sign: str = '') -> str:
    return found.text(digits, sign) if found else NOTHING


def _number(value: float | None, digits: int = 4) -> str:
    return '' if value is None else f'{value:.{digits}f}'
