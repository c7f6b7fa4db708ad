from __future__ import annotations

import torch
from torch import Tensor


def is_transformed() -> bool:
    """Whether torch.func (grad, vjp, vmap and the like) is at work."""
    return torch._C._are_functorch_transforms_active()  # as torch.autograd.Function asks; there is no public name


def is_readable(values: Tensor) -> bool:
    """Whether numpy can read a tensor's memory: those of torch.func have none."""
    return values.device.type == 'cpu' and not is_transformed()


def refuse_transforms(name: str, way_out: str = '') -> None:
    """To be called by a loss with a gradient of its own, as torch.func takes only what it can differentiate itself.

    Args:
        name: What the message is about.
        way_out: What it ends with.

    Raises:
        RuntimeError: torch.func is at work.
    """
    if is_transformed():
        raise RuntimeError(f'{name} cannot be transformed by torch.func: its gradient is written by hand{way_out}')


def refuse_second_derivative(name: str, way_out: str = '') -> None:
    """To be called by the backward of an implementation whose own derivative is not implemented.

    Args:
        name: What the message is about.
        way_out: What it ends with.

    Raises:
        RuntimeError: A graph of the backward is asked for.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(f'{name} can be differentiated once only (create_graph=True was asked for){way_out}')
