"""Work that is split between threads once, so that it runs well on a busy machine, too.

torch splits every single operation between its threads, which then wait for each other, spinning. As soon as one of the
threads has to share its core, thousands of short operations in a row take many times as long. Here each thread runs a
long chain of operations on its own part of the data, without waiting for the others.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, wraps
from threading import Barrier
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

Part = TypeVar('Part')
Result = TypeVar('Result')
Options = ParamSpec('Options')


def num_threads(device: torch.device) -> int:
    """Number of threads that :func:`parallel_map` uses for work on a device."""
    return torch.get_num_threads() if device.type == 'cpu' else 1


def parallel_map(function: Callable[[Part], Result], parts: Iterable[Part], device: torch.device) -> Iterator[Result]:
    """Map in as many threads as torch uses, each of which runs its operations alone. Results come in order.

    Gradients are not recorded. Threads that get too far ahead wait until the caller takes a result, so that few results
    are in memory. On devices other than the CPU, or with one thread, this is plain ``map``.
    """
    threads = num_threads(device)
    inference = torch.is_inference_mode_enabled()

    def run(part: Part) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return function(part)

    return map(run, parts) if threads == 1 else _map(_pool(threads, os.getpid()), run, parts, 2 * threads)


def _map(
    pool: ThreadPoolExecutor, function: Callable[[Part], Result], parts: Iterable[Part], ahead: int
) -> Iterator[Result]:
    pending: deque[Future[Result]] = deque()
    for part in parts:
        if len(pending) == ahead:
            yield pending.popleft().result()
        pending.append(pool.submit(function, part))
    while pending:
        yield pending.popleft().result()


class OnDevice(Protocol):
    """A tensor, or anything else with a device."""

    @property
    def device(self) -> torch.device: ...


Values = TypeVar('Values', bound=OnDevice)


def run_alone(
    function: Callable[Concatenate[Values, Options], Result],
) -> Callable[Concatenate[Values, Options], Result]:
    """Decorate a function to run as in :func:`parallel_map`: torch splits none of its operations between threads.

    For work between calls of :func:`parallel_map`, whose threads would have to share the cores with torch's own. The
    first argument's device is where the function works.
    """

    @wraps(function)
    def alone(values: Values, *args: Options.args, **kwargs: Options.kwargs) -> Result:
        (result,) = parallel_map(lambda values: function(values, *args, **kwargs), (values,), values.device)
        return result

    return alone


@cache
def _pool(threads: int, pid: int) -> ThreadPoolExecutor:
    """Threads with one torch thread each. Each process has its own, since threads do not survive a fork."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix='mmseg_cpg')
    started = Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # else torch sets the number anew when the thread first needs it
        torch.set_num_threads(1)
        started.wait()

    for _ in range(threads):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(threads)  # threads that others start later inherit the number that was set last
    return pool
