from __future__ import annotations

import torch


def chunk_slices(length: int, elements: int, device: torch.device) -> list[slice]:
    """Cut ``length`` columns of ``elements`` each into slices, of which the last may be shorter; at least one slice.

    What is worked on at a time stays in a CPU's cache, and is small beside the logits of a training batch.
    """
    step = max(1, (2**18 if device.type == 'cpu' else 2**24) // elements)
    return [slice(start, min(start + step, length)) for start in range(0, max(length, 1), step)]
