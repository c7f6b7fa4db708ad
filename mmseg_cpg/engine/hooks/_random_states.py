"""States of the global random generators that training uses: Python's, NumPy's and torch's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

# ruff: noqa: NPY002  the transforms of MMCV and MMSegmentation draw from NumPy's global generator


def get_random_states() -> dict[str, Any]:
    """Return the state of each generator, including that of the current GPU, as tensors and plain values."""
    name, keys, *rest = cast(tuple, np.random.get_state())
    states: dict[str, Any] = dict(
        python=random.getstate(), numpy=(name, keys.tolist(), *rest), torch=torch.get_rng_state()
    )
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Restore the result of :func:`get_random_states`; the state of a GPU is skipped if there is none."""
    random.setstate(states['python'])
    np.random.set_state(states['numpy'])
    torch.set_rng_state(states['torch'].cpu())  # a checkpoint may have been loaded to a GPU
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


@contextmanager
def seeded(*integers: int) -> Iterator[None]:
    """Seed the CPU generators with integers >= 0 in a block, and restore their states after it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    for_python, for_torch, *for_numpy = np.random.SeedSequence(integers).generate_state(6).tolist()
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch)  # torch.manual_seed would seed the GPUs as well
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
