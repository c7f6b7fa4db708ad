from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.models.edge_network import load_edge_layers
from mmseg_cpg.ops.semeda import check_distance, check_layers, semeda_loss

from .base import SegmentationLoss


@MODELS.register_module()
class SEMEDALoss(SegmentationLoss):
    """Semantic edge aware loss for ``loss_decode``, reconstructed from the abstract of its paper alone.

    The paper is Chen, Dapogny & Cord, Pattern Recognition 2020. Network, training, layers, distance and weight are our
    choices.

    Use it together with a pixel-wise loss, and with an edge network that ``tools/train_edge_network.py`` has trained on
    the labels of the same dataset. See :func:`mmseg_cpg.ops.semeda_loss` for the definition, the handling of void
    pixels, and what is taken from the abstract.

    The edge network is frozen: its weights are neither parameters, which an optimizer or ``init_weights`` would change,
    nor buffers, which half precision would round. They are not in the ``state_dict``, so checkpoints of a segmentor are
    the same with and without this loss. MMSegmentation builds losses with the model, so testing a segmentor needs the
    file too, or a config without this loss.

    Attributes:
        network (list[tuple[Tensor, Tensor]]): (weight, bias) of the edge network's layers, float32, on the device of
            the latest logits, initially on the CPU.

    Args:
        checkpoint (str): File or URL of the trained edge network.
        layers (Sequence[int], optional): Indices of the layers to compare. Defaults to None: all.
        distance (str): 'l2' (squared) or 'l1'. Defaults to 'l2'.
        loss_weight (float): Factor of this loss. Defaults to 1.0.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_semeda'.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value.
        ValueError: The checkpoint does not exist, or does not contain an edge network.
    """

    def __init__(
        self,
        checkpoint: str,
        layers: Sequence[int] | None = None,
        distance: str = 'l2',
        loss_weight: float = 1.0,
        reduction: str = 'mean',
        loss_name: str = 'loss_semeda',
    ) -> None:
        super().__init__(loss_weight, loss_name, reduction)
        check_distance(distance)
        if not isinstance(checkpoint, str):
            raise TypeError(f'checkpoint must be the path of a trained edge network, got {checkpoint!r}')
        self.network = load_edge_layers(checkpoint)
        self.layers = check_layers(layers, len(self.network))
        self.distance = distance

    def compute(self, logits: Tensor, label: Tensor, **options: Any) -> Tensor:
        network = self._network_for(logits)
        return semeda_loss(logits, label, network, layers=self.layers, distance=self.distance, **options)

    @torch.inference_mode(False)  # tensors created in inference mode cannot be used in training
    def _network_for(self, logits: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Move the network to the logits' device and return it."""
        self.network = [(weight.to(logits.device), bias.to(logits.device)) for weight, bias in self.network]
        return self.network
