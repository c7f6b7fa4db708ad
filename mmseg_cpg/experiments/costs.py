"""What a training step cost, from the log of a training."""

from __future__ import annotations

import math
from statistics import median
from typing import NamedTuple

from .work_dirs import Run, read_scalars

WARM_UP_ITERS = 20


class Costs(NamedTuple):
    """What a step of a training cost; None where the log does not tell.

    ``step_ms`` is the time of a step without the wait for its data, ``data_ms`` that wait: medians of what was logged
    after the first ``WARM_UP_ITERS`` iterations, or, in a shorter training, of all. ``memory_mib`` is the highest
    ``memory`` that was logged before the first validation, from which on it would count as well.
    """

    step_ms: float | None
    data_ms: float | None
    memory_mib: float | None


def read_costs(run: Run) -> Costs:
    """Read the costs of a run.

    Args:
        run (Run): The run.

    Returns:
        Costs: Its costs.
    """
    scalars = read_scalars(run)
    data = scalars.get('data_time', {})
    steps = {at: time - data[at] for at, time in scalars.get('time', {}).items() if at in data}
    first_validation = min(scalars.get('mIoU', {}), default=math.inf)
    memory = [value for at, value in scalars.get('memory', {}).items() if at <= first_validation]
    return Costs(_median_ms(steps), _median_ms(data), max(memory, default=None))


def _median_ms(seconds: dict[int, float]) -> float | None:
    """The median of seconds by iteration, in milliseconds."""
    warm = [value for at, value in seconds.items() if at > WARM_UP_ITERS] or list(seconds.values())
    return 1000 * median(warm) if warm else None
