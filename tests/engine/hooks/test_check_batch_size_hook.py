"""What CheckBatchSizeHook logs; tests/configs/test_training.py runs it in a Runner."""

import logging
from types import SimpleNamespace

import pytest
from mmengine.config import ConfigDict
from mmseg.registry import HOOKS

from mmseg_cpg import CheckBatchSizeHook


def messages(caplog, auto_scale_lr, images=3, gpus=4, **optim_wrapper):
    runner = SimpleNamespace(
        auto_scale_lr=auto_scale_lr,
        cfg=ConfigDict(optim_wrapper=optim_wrapper),
        logger=logging.getLogger(__name__),
        train_dataloader=SimpleNamespace(batch_size=images),
        world_size=gpus,
    )
    HOOKS.build(dict(type='mmseg_cpg.CheckBatchSizeHook')).before_train(runner)
    return caplog.messages


def test_another_total_batch_is_one_line(caplog):
    (message,) = messages(caplog, dict(enable=False, base_batch_size=12), gpus=2)
    assert 'a total batch size of 12, but this run has GPUs x images = 2 x 3 = 6.' in message
    assert 'auto_scale_lr.enable=True' in message
    assert '\n' not in message


def test_accumulated_steps_count(caplog):
    assert messages(caplog, dict(base_batch_size=12), gpus=2, accumulative_counts=2) == []
    (message,) = messages(caplog, dict(base_batch_size=12), gpus=4, accumulative_counts=2)
    assert 'GPUs x images x accumulated steps = 4 x 3 x 2 = 24.' in message


@pytest.mark.parametrize(
    'auto_scale_lr', [None, dict(enable=False), dict(base_batch_size=12), dict(enable=True, base_batch_size=16)]
)
def test_silent_where_nothing_differs_is_known_or_left_to_do(caplog, auto_scale_lr):
    assert messages(caplog, auto_scale_lr) == []


def test_silent_where_a_batch_sampler_decides(caplog):
    assert messages(caplog, dict(base_batch_size=12), images=None) == []


def test_registered():
    assert HOOKS.get('CheckBatchSizeHook') is CheckBatchSizeHook
