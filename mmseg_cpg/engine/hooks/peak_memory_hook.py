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
    """Log the memory of a training on CPU as ``memory``, as MMEngine does on a GPU, where this hook does nothing.

    It is the peak resident memory of the process so far in MiB: data, code and validations before included, the data
    loader's workers not. In distributed training it is the first process's.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log it; nothing where the system does not report it."""
        peak = None if is_cuda_available() else read_peak_mib()
        if peak is not None:
            runner.message_hub.update_scalar('train/memory', peak)


def read_peak_mib() -> int | None:
    """The peak resident memory of this process in MiB, None where ``/proc`` does not have it."""
    # Not getrusage's ru_maxrss: a process inherits that of the one that started it.
    found = re.search(r'VmHWM:\s*(\d+) kB', STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) // 1024 if found else None
