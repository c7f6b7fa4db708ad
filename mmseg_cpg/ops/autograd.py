from __future__ import annotations

import torch


def refuse_second_derivative(name: str) -> None:
    """To be called by the backward of an implementation whose own derivative is not implemented.

    Raises:
        RuntimeError: A graph of the backward is asked for.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f'the {name} CPG loss can be differentiated once only (create_graph=True was asked for); '
            "implementation='dense' can be differentiated twice"
        )
