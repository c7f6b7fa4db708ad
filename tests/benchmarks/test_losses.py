"""benchmarks/losses.py has a row for every loss, also for one that fails."""

import time

import pytest
import torch
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from benchmarks import losses
from mmseg_cpg.models.losses.base import SegmentationLoss

SHAPE = (1, 3, 24, 32)


@pytest.fixture
def script():
    register_all_modules(init_default_scope=True)
    return losses


def test_every_loss_of_the_package_is_measured(script):
    case = script.measure_case(SHAPE, 'cpu', 4, 60)
    ours = {module for module in MODELS.module_dict.values() if is_ours(module)}
    table = script.losses()
    assert {MODELS.get(config['type']) for config in table.values() if isinstance(config, dict)} >= ours
    assert case['losses'].keys() == table.keys()
    for name, row in case['losses'].items():
        assert row['here'] == (isinstance(table[name], dict) and is_here(MODELS.get(table[name]['type'])))
        if row['here']:
            assert row['total_ms'] > 0
            assert row['ignores_void']
    baseline = case['losses'][script.BASELINE]
    assert baseline['over_cross_entropy'] == baseline['memory_over_cross_entropy'] == 1


def is_ours(module):
    return isinstance(module, type) and issubclass(module, SegmentationLoss) and is_here(module)


def is_here(module):
    return module.__module__.startswith('mmseg_cpg.')


class Failing(torch.nn.Module):
    def forward(self, pred, target, ignore_index):
        raise RuntimeError('no such thing\nas this')


class Endless(torch.nn.Module):
    def forward(self, pred, target, ignore_index):
        while True:
            time.sleep(0.01)


def test_failures_and_slow_losses_are_published(script, monkeypatch):
    table = {script.BASELINE: script.CROSS_ENTROPY, 'Failing': Failing, 'Endless': Endless}
    monkeypatch.setattr(script, 'losses', lambda: table)
    result = dict(environment=dict(device='a machine', threads=1), limit_s=0.5)
    result['cases'] = [script.measure_case(SHAPE, 'cpu', 4, 0.5)]
    text = script.markdown(result)
    assert '| Failing | fails |' in text
    assert '- Failing fails: no such thing' in text
    assert '| Endless | more than 0.5 s |' in text
    times, memory = script.plot(result).axes
    assert [label.get_text() for label in times.get_yticklabels()] == [script.BASELINE, 'Endless', 'Failing']
    assert [text.get_text() for text in times.texts] == ['1.0', 'more than 0.5 s', 'fails']
    assert [text.get_text() for text in memory.texts] == ['1.0', '–', 'fails']


def test_baseline_must_work(script, monkeypatch):
    monkeypatch.setattr(script, 'losses', lambda: {script.BASELINE: Failing})
    with pytest.raises(SystemExit, match='CrossEntropyLoss, with which all are compared, fails: no such thing'):
        script.measure_case(SHAPE, 'cpu', 4, 60)
