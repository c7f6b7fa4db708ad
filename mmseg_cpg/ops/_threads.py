"""Work that is split between threads once, so that it also runs well on a busy machine.

torch splits every single operation between its threads, which then wait for each other, spinning. Thousands of short
operations in a row collapse as soon as one of the threads has to share its core. Here each thread runs a long chain of
operations on a part of its own, and waits for nobody.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

Part = TypeVar('Part')
Result = TypeVar('Result')


def num_threads(device: torch.device) -> int:
    """How many threads :func:`parallel_map` has for work on a device."""
    return torch.get_num_threads() if device.type == 'cpu' else 1


def parallel_map(function: Callable[[Part], Result], parts: Iterable[Part], device: torch.device) -> Iterator[Result]:
    """Map in as many threads as torch uses, each of which runs its operations alone; results come in order.

    Gradients are not recorded. The threads wait for the caller to take a result before they get too far ahead, so that
    few results are in memory. On other devices than the CPU, or with one thread, this is plain ``map``.
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


def run_alone(function: Callable[[], Result], device: torch.device) -> Result:
    """Call a function as :func:`parallel_map` does: torch splits none of its operations between threads.

    For work between calls of :func:`parallel_map`, whose threads would have to share the cores with torch's own.
    """
    (result,) = parallel_map(lambda _: function(), (None,), device)
    return result


@cache
def _pool(threads: int, pid: int) -> ThreadPoolExecutor:
    """Threads with one torch thread each; of each process its own, since threads do not survive a fork."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix='mmseg_cpg')
    started = Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # else torch sets the number anew when the thread first needs it
        torch.set_num_threads(1)
        started.wait()

    for _ in range(threads):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(threads)  # threads that others start later take over the number that was set last
    return pool
