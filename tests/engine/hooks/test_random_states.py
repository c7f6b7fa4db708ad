import io
import random

import numpy as np
import pytest
import torch

from mmseg_cpg.engine.hooks._random_states import get_random_states, seeded, set_random_states

# ruff: noqa: NPY002  the global generator is what is tested


def draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()


def test_states_go_on_where_they_were_taken():
    draw()  # leaves half of NumPy's pair of normal numbers
    states = get_random_states()
    expected = draw()
    assert draw() != expected
    set_random_states(states)
    assert draw() == expected


def test_states_pass_a_checkpoint_that_may_run_no_code():
    states = get_random_states()
    expected = draw()
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    set_random_states(torch.load(file, weights_only=True))
    assert draw() == expected


def test_seeded_draws_depend_on_every_integer_alone():
    drawn = {}
    for integers in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3), (2**32 - 1, 0, 10**6)):
        draw()
        with seeded(*integers):
            drawn[integers] = draw()
    assert len({value for values in drawn.values() for value in values}) == 5 * len(drawn)
    for integers, expected in drawn.items():
        with seeded(*integers):
            assert draw() == expected


def test_seeded_leaves_nothing_behind():
    states = get_random_states()
    expected = draw()
    set_random_states(states)
    with pytest.raises(RuntimeError, match='broken image'), seeded(1, 2, 3):
        draw()
        raise RuntimeError('broken image')
    assert draw() == expected
