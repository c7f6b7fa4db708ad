"""LossWeightHook on a model alone, and in a training run that is resumed."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import HOOKS
from torch import nn
from torch.utils.data import DataLoader

from mmseg_cpg import CPGLoss, LossWeightHook
from mmseg_cpg.engine.safe_unpickling import allow_training_logs


def make_runner(model, max_iters=10, max_epochs=4):
    return SimpleNamespace(
        model=model,
        iter=0,
        epoch=0,
        max_iters=max_iters,
        max_epochs=max_epochs,
        message_hub=MessageHub('test_loss_weight_hook'),
    )


def weights(hook, runner, name='iter', count=10):
    """The weight of the model's first loss in each iteration or epoch."""
    hook.before_train(runner)
    found = []
    for progress in range(count):
        setattr(runner, name, progress)
        hook.before_train_iter(runner, 0)
        found.append(runner.model[0].loss_weight)
    return found


def test_ramps_the_weight_that_the_config_says():
    runner = make_runner(nn.ModuleList([CPGLoss(loss_weight=2.0), CrossEntropyLoss(loss_weight=1.0)]))
    hook = HOOKS.build(dict(type='mmseg_cpg.LossWeightHook', loss_name='loss_cpg', begin=2, end=6))
    assert weights(hook, runner) == [0, 0, 0, 0.5, 1, 1.5, 2, 2, 2, 2]
    assert runner.model[1].loss_weight == 1
    assert runner.message_hub.get_scalar('train/loss_cpg_weight').current() == 2
    hook.before_train_iter(SimpleNamespace(**{**vars(runner), 'iter': 3}), 0)
    assert runner.model[0].loss_weight == 0.5
    hook.after_train(runner)
    assert runner.model[0].loss_weight == 2


def test_any_loss_down_or_up_to_the_end_of_the_training():
    runner = make_runner(nn.ModuleList([CrossEntropyLoss(loss_name='loss_x'), CrossEntropyLoss(loss_name='loss_x')]))
    found = weights(LossWeightHook('loss_x', start_factor=1.0, end_factor=0.5), runner)
    assert found == pytest.approx([1 - 0.05 * t for t in range(10)])
    assert runner.model[1].loss_weight == runner.model[0].loss_weight


def test_by_epoch():
    runner = make_runner(nn.ModuleList([CPGLoss(loss_weight=4.0)]))
    assert weights(LossWeightHook('loss_cpg', by_epoch=True), runner, 'epoch', 4) == [0, 1, 2, 3]


def test_the_loss_follows():
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    label = torch.arange(8).div(4, rounding_mode='floor').expand(1, 8, 8)
    runner = make_runner(nn.ModuleList([CPGLoss()]))
    expected = CPGLoss()(logits, label)
    hook = LossWeightHook('loss_cpg', end=4)
    hook.before_train(runner)
    runner.iter = 1
    hook.before_train_iter(runner, 0)
    assert runner.model[0](logits, label) == pytest.approx(0.25 * expected.item())


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = CPGLoss(loss_weight=8.0)
        self.weight = nn.Parameter(torch.zeros(1))

    def train_step(self, data, optim_wrapper):
        optim_wrapper.update_params(self.weight.sum())
        SEEN.append(self.loss.loss_weight)
        return dict(loss=self.weight.detach())


SEEN = []


def test_a_resumed_training_continues_the_ramp(tmp_path):
    def run(name, max_iters, resume=False):
        SEEN.clear()
        allow_training_logs()
        Runner(
            Model(),
            str(tmp_path),
            train_dataloader=DataLoader([0] * 4),
            train_cfg=dict(by_epoch=False, max_iters=max_iters),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
            custom_hooks=[dict(type='mmseg_cpg.LossWeightHook', loss_name='loss_cpg', end=4)],
            resume=resume,
            experiment_name=name,
        ).train()
        return list(SEEN)

    assert run('first', 2) == [0, 2]
    assert run('second', 6, resume=True) == [4, 6, 8, 8]


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        (dict(start_factor=-1), ValueError),
        (dict(end_factor=float('inf')), ValueError),
        (dict(begin='1'), TypeError),
        (dict(end_factor=None), TypeError),
        (dict(end='8k'), TypeError),
        (dict(end=-1), ValueError),
    ],
)
def test_bad_arguments(arguments, error):
    ((name, value),) = arguments.items()
    with pytest.raises(error, match=f'{name} must be a finite number >= 0, got {value!r}'):
        LossWeightHook('loss_cpg', **arguments)


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (dict(loss_name='loss_cgp'), "no loss is called 'loss_cgp'; the model's are loss_ce, loss_cpg"),
        (dict(loss_name='loss_cpg', begin=5, end=5), 'end must be greater than begin = 5, got 5'),
        (dict(loss_name='loss_cpg', begin=10), 'end must be greater than begin = 10, got 10'),
    ],
)
def test_a_mistake_stops_the_training_before_it_starts(hook, message):
    runner = make_runner(nn.ModuleList([CPGLoss(), CrossEntropyLoss()]))
    with pytest.raises(ValueError, match=message):
        LossWeightHook(**hook).before_train(runner)
