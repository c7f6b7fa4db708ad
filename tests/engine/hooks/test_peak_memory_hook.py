from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from mmengine.logging import MessageHub
from mmseg.registry import HOOKS

from mmseg_cpg import PeakMemoryHook
from mmseg_cpg.engine.hooks import peak_memory_hook
from mmseg_cpg.engine.hooks.peak_memory_hook import read_peak_mib

MIB = 2**20


@pytest.fixture
def logged():
    """Run the hook after an iteration, and return what it logged."""

    def run():
        hub = MessageHub('peak')
        HOOKS.build(dict(type='mmseg_cpg.PeakMemoryHook')).after_train_iter(SimpleNamespace(message_hub=hub), 0)
        return {name: history.current() for name, history in hub.log_scalars.items()}

    return run


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(peak_memory_hook, 'is_cuda_available', lambda: False)


def test_it_is_the_highest_that_the_process_ever_had(logged):
    more = read_peak_mib() - psutil.Process().memory_info().rss // MIB + 200
    array = np.ones(more * MIB, np.uint8)
    held = psutil.Process().memory_info().rss / MIB
    del array
    # The kernel counts pages in batches for each thread.
    assert logged()['train/memory'] == pytest.approx(held, abs=20)
    assert psutil.Process().memory_info().rss / MIB < held - more / 2


def test_a_gpu_has_mmengines_own(logged, monkeypatch):
    monkeypatch.setattr(peak_memory_hook, 'is_cuda_available', lambda: True)
    assert logged() == {}


@pytest.mark.parametrize('text', ['Name:\tpython\nVmRSS:\t  100 kB\n', None])
def test_a_system_that_does_not_tell(logged, monkeypatch, tmp_path, text):
    if text is not None:
        (tmp_path / 'status').write_text(text)
    monkeypatch.setattr(peak_memory_hook, 'STATUS', tmp_path / 'status')
    assert logged() == {}


def test_it_is_registered():
    assert isinstance(HOOKS.build(dict(type='mmseg_cpg.PeakMemoryHook')), PeakMemoryHook)
