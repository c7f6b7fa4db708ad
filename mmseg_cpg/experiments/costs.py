"""The cost of a training step, from the log of a training run."""

from __future__ import annotations

import math
from statistics import median
from typing import NamedTuple

from .work_dirs import Run, read_scalars

WARM_UP_ITERS = 20


class Costs(NamedTuple):
    """The cost of a training step; None if it is not in the log.

    Attributes:
        step_ms: Time of a step without waiting for data: the median after the first ``WARM_UP_ITERS`` iterations, or
            of all in a shorter training run.
        data_ms: Time of waiting for data, likewise.
        memory_mib: Maximum ``memory`` logged before the first validation, which would otherwise be included.
    """

    step_ms: float | None
    data_ms: float | None
    memory_mib: float | None


def read_costs(run: Run) -> Costs:
    """Read the costs of a run from its log."""
    scalars = read_scalars(run)
    data = scalars.get('data_time', {})
    steps = {at: time - data[at] for at, time in scalars.get('time', {}).items() if at in data}
    first_validation = min(scalars.get('mIoU', {}), default=math.inf)
    memory = [value for at, value in scalars.get('memory', {}).items() if at <= first_validation]
    return Costs(_median_ms(steps), _median_ms(data), max(memory, default=None))


def _median_ms(seconds: dict[int, float]) -> float | None:
    """The median in milliseconds of seconds by iteration."""
    warm = [value for at, value in seconds.items() if at > WARM_UP_ITERS] or list(seconds.values())
    return 1000 * median(warm) if warm else None
