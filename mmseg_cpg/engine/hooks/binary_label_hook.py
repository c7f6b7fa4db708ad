from __future__ import annotations

from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

from mmseg_cpg.structures import binary_ids, void_in_place_of_class

TRAINING_BATCHES = 100


class BinaryLabelHook(Hook):
    """Warns that void takes the place of the class in the labels of a binary task.

    It looks at the labels of a whole validation or test, and at those of the first 100 training batches.

    Args:
        ignore_index: Id of void pixels.
    """

    def __init__(self, ignore_index: int) -> None:
        self.ignore_index = ignore_index
        self._ids: dict[str, set[int]] = dict(train=set(), val=set(), test=set())
        self._batches = 0

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = 'train'
    ) -> None:
        if mode != 'train':
            self._look_at(outputs, mode)
        elif self._batches < TRAINING_BATCHES:
            self._look_at(data_batch.get('data_samples') if isinstance(data_batch, dict) else None, mode)
            self._batches += 1
            if self._batches == TRAINING_BATCHES:
                self._warn(runner, mode, f'no label of the first {TRAINING_BATCHES} batches contains')

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        if mode != 'train':
            self._warn(runner, mode, 'no label contains')

    def _look_at(self, samples: Any, mode: str) -> None:
        ids = self._ids[mode]
        for sample in samples if isinstance(samples, (list, tuple)) else ():  # other models, other formats
            if 1 not in ids and isinstance(sample, SegDataSample) and 'gt_sem_seg' in sample:
                ids |= binary_ids(sample.gt_sem_seg.data, self.ignore_index)

    def _warn(self, runner: Runner, mode: str, finding: str) -> None:
        # In every process, as one of them may be the only one with labels of the class.
        ids = set().union(*all_gather_object(self._ids[mode]))
        message = void_in_place_of_class(ids, 2, self.ignore_index, finding)
        if message and is_main_process():
            runner.logger.warning(message)  # MMEngine logs the same warning only once
