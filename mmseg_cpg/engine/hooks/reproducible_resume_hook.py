from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.registry import HOOKS
from torch import Tensor
from torch.utils.data import Dataset

from mmseg_cpg.engine.hooks._random_states import get_random_states, seeded, set_random_states


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Make a run that is resumed at the end of an epoch continue as if it had not been interrupted.

    Every sample is loaded and augmented with random generators seeded from (seed, epoch, index in the dataset), so
    augmentation does not depend on the number of workers or on earlier samples. Every epoch starts with the random
    states at the end of the previous one, regardless of what validation drew in between. Checkpoints contain these
    states for each process, and the sampler's seed. No seed needs to be set.

    On CPU, weights and losses of the resumed run are bit-exact, with any number of workers, including persistent ones,
    and any map-style dataset, including MultiImageMixDataset. Limitations:

    - On GPUs the random states are the same, but many CUDA kernels sum in nondeterministic order. ``randomness =
      dict(deterministic=True)`` replaces those that have a deterministic alternative.
    - With another number of GPUs the batches differ. Samples are still augmented identically.
    - A run that is resumed in the middle of an epoch restarts that epoch, as in MMEngine.
    - Transforms that keep random generators or results of their own (Albu's, cached mosaics) are not covered.
    - If a sampler draws an image twice in an epoch, both copies are augmented identically.

    Raises:
        ValueError: With an iteration-based loop, which has no epochs.
    """

    priority = 'VERY_HIGH'  # before other hooks draw

    def __init__(self) -> None:
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # the workers read it
        self._states: list[dict[str, Any]] | None = None
        self._loaded: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the states of the checkpoint until training starts, and it is known whether the run resumes."""
        self._loaded = checkpoint.get('random_states')

    def before_train(self, runner: Runner) -> None:
        """Seed the samples of the training set; restore the states of a resumed checkpoint."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                'ReproducibleResumeHook needs train_cfg.type=EpochBasedTrainLoop, '
                f'got {type(runner.train_loop).__name__}: remove the hook'
            )
        if runner.iter > 0:
            self._resume(runner)
        dataset = runner.train_dataloader.dataset
        dataset.__getitems__ = _SeededSamples(dataset, runner.seed, self._epoch)

    def before_train_epoch(self, runner: Runner) -> None:
        """Publish the epoch to the workers."""
        self._epoch.fill_(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Restore the random states at the end of the last epoch, after the data loader has drawn its seed."""
        if batch_idx == 0 and self._states is not None:
            set_random_states(self._states[get_rank()])

    def after_train_epoch(self, runner: Runner) -> None:
        """Store the random states of all processes."""
        self._states = all_gather_object(get_random_states())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the random states, which exist after the first epoch."""
        if self._states is not None:
            sampler_seed = getattr(runner.train_dataloader.sampler, 'seed', None)
            checkpoint['random_states'] = dict(processes=self._states, sampler_seed=sampler_seed)

    def after_train(self, runner: Runner) -> None:
        """Restore the dataset."""
        del runner.train_dataloader.dataset.__getitems__

    def _resume(self, runner: Runner) -> None:
        if self._loaded is None:
            runner.logger.warning('The checkpoint has no random states: the run will not match an uninterrupted one.')
            return
        if self._loaded['sampler_seed'] is not None:
            runner.train_dataloader.sampler.seed = self._loaded['sampler_seed']
        if len(self._loaded['processes']) == get_world_size():
            self._states = self._loaded['processes']
        else:
            runner.logger.warning(
                f'The checkpoint has the random states of {len(self._loaded["processes"])} processes, but this run '
                f'has {get_world_size()}: the run will not match an uninterrupted one.'
            )


class _SeededSamples:
    """``__getitems__`` of a dataset, which torch's data loaders use to fetch a batch if it exists."""

    def __init__(self, dataset: Dataset, seed: int, epoch: Tensor) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = epoch

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        samples = []
        for index in indices:
            with seeded(self.seed, int(self.epoch), index):
                samples.append(self.dataset[index])
        return samples
