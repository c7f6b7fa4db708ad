from __future__ import annotations

import torch
from torch import Tensor


class ZeroStreak:
    """Counts how many losses in a row were 0, without waiting for the device."""

    def __init__(self) -> None:
        self._length = torch.zeros((), dtype=torch.int32, device='cpu')
        self._on_host = self._length

    @torch.inference_mode(False)  # tensors created in inference mode cannot be written to in training
    def update(self, loss: Tensor) -> int:
        """Take the next loss, of any shape.

        Returns:
            The current length of the streak; for CUDA tensors, possibly that of a few calls ago.
        """
        is_zero = (loss.detach() == 0).all()
        if loss.device != self._length.device:
            self._length = self._length.to(loss.device)
            self._on_host = torch.zeros((), dtype=torch.int32, device='cpu', pin_memory=loss.is_cuda)
        self._length = (self._length + 1) * is_zero
        self._on_host = (
            self._length if loss.device.type == 'cpu' else self._on_host.copy_(self._length, non_blocking=True)
        )
        return int(self._on_host)
