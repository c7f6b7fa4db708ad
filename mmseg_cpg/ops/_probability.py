"""Probabilities of one image and their backward, for losses that recompute them instead of keeping them."""

from __future__ import annotations

import torch
from torch import Tensor

from ._common import chunk_slices, compute_dtype


def probability_of_image(logits: Tensor, receptive: Tensor) -> Tensor:
    """Softmax over the classes of one image; the sigmoid of a single channel.

    Args:
        logits: (C, H, W), floating point.
        receptive: (H, W) bool, pixels that contribute. Other logits are masked to 0, so they have no effect, not even
            as NaN.

    Returns:
        (C, H, W) float32, or float64 for float64 logits.
    """
    logits = logits.to(compute_dtype(logits)).masked_fill(~receptive, 0).contiguous()
    if len(logits) == 1:
        return logits.sigmoid_()
    exponential = logits.sub_(logits.amax(0)).exp_()  # in place: softmax would need a second copy
    return exponential.div_(exponential.sum(0))


def probability_backward_(grad: Tensor, probability: Tensor) -> Tensor:
    """Turn the gradient of :func:`probability_of_image`'s result into that of the logits, in place, and return it."""
    if len(probability) == 1:
        return grad.mul_(probability).mul_(1 - probability)
    shift = torch.zeros_like(grad[0])
    for classes in chunk_slices(len(grad), grad[0].numel(), grad.device):
        shift += (grad[classes] * probability[classes]).sum(0)
    return grad.sub_(shift).mul_(probability)
