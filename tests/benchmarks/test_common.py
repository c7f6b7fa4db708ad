"""benchmarks/common.py leaves the process as it was."""

import pytest
import torch

from benchmarks.common import peak_memory


def test_a_loss_that_fails_leaves_the_number_of_threads(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 7)
    monkeypatch.setattr(torch, 'set_num_threads', chosen.append)
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda logits: 1 / 0, torch.zeros(1))
    assert chosen == [1, 7]
