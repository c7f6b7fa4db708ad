from __future__ import annotations

import torch


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
