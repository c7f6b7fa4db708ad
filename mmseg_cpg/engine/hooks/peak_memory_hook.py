from __future__ import annotations

import re
from pathlib import Path

from mmengine.device import is_cuda_available
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

STATUS = Path('/proc/self/status')


@HOOKS.register_module()
class PeakMemoryHook(Hook):
    """Log the memory of training on a CPU as ``memory``, as MMEngine does on a GPU; there this hook does nothing.

    ``memory`` is the peak resident memory of the process so far in MiB, including data, code and earlier validations,
    but not the data loader's workers. In distributed training it is that of the first process.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log the peak memory, if the system reports it."""
        peak = None if is_cuda_available() else read_peak_mib()
        if peak is not None:
            runner.message_hub.update_scalar('train/memory', peak)


def read_peak_mib() -> int | None:
    """The peak resident memory of this process in MiB, None if ``/proc`` does not report it."""
    # Not getrusage's ru_maxrss, which a process inherits from its parent.
    found = re.search(r'VmHWM:\s*(\d+) kB', STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) // 1024 if found else None
