"""What a sample draws depends on seed, epoch and index, wherever it is loaded; test_resume.py trains with the hook."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader, Dataset

from mmseg_cpg import ReproducibleResumeHook

# ruff: noqa: NPY002  the transforms of MMSegmentation draw from NumPy's global generator


class Draws(Dataset):
    """Samples that are their index and a number from each generator."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def epochs(seed=0, dataset=None, **loader):
    """Load two epochs as a runner does, and return the draws of each by index."""
    dataset = dataset or Draws()
    loader = DataLoader(dataset, batch_size=3, shuffle=True, collate_fn=list, **loader)
    loop = object.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(train_loop=loop, train_dataloader=loader, seed=seed, iter=0, epoch=0)
    hook = ReproducibleResumeHook()
    hook.before_train(runner)
    drawn = []
    for runner.epoch in range(2):
        hook.before_train_epoch(runner)
        drawn.append({index: draws for batch in loader for index, *draws in batch})
    hook.after_train(runner)
    return drawn


@pytest.fixture(scope='module')
def expected():
    return epochs()


def test_every_sample_and_epoch_draws_anew(expected):
    numbers = [number for epoch in expected for draws in epoch.values() for number in draws]
    assert len(numbers) == len(set(numbers)) == 2 * 8 * 3


def test_another_seed_draws_other_numbers(expected):
    assert all(epochs(seed=1)[i][0] != expected[i][0] for i in range(2))


@pytest.mark.parametrize('persistent', [False, True])
def test_workers_draw_the_same(expected, persistent):
    assert epochs(num_workers=2, persistent_workers=persistent) == expected


def test_the_dataset_is_left_as_it_was():
    dataset = Draws()
    epochs(dataset=dataset)
    assert vars(dataset) == {}


def test_built_by_dotted_name():
    assert isinstance(HOOKS.build(dict(type='mmseg_cpg.ReproducibleResumeHook')), ReproducibleResumeHook)
