from __future__ import annotations

import math
import os.path as osp
import pickle
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn as nn
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, save_checkpoint
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_cpg.ops._validation import void_mask
from mmseg_cpg.ops.semantic_edges import balanced_bce, one_hot_map, semantic_edges
from mmseg_cpg.ops.semeda import edge_features

FILE_NAME = 'edge_network.pth'


@MODELS.register_module()
class EdgeNetwork(BaseModel):
    """A small network that predicts the semantic edges of a label map or of a segmentor's probabilities.

    3 x 3 convolutions with ReLU at full resolution, whose features :class:`~mmseg_cpg.SEMEDALoss` compares, and a 1 x 1
    convolution that returns an edge logit for each class. Without normalization layers, it behaves the same in training
    and when frozen. ``tools/train_edge_network.py`` trains it on the labels of a dataset, with the edges of
    :func:`mmseg_cpg.ops.semantic_edges.semantic_edges` and the loss
    :func:`~mmseg_cpg.ops.semantic_edges.balanced_bce`.

    Args:
        num_classes (int): Channels of the probability map.
        channels (Sequence[int]): Features of each layer. Defaults to (32, 32).
        ignore_index (int): Id of void pixels in the label. Defaults to 255.
        data_preprocessor (dict, optional): Config of a ``SegDataPreProcessor``, which pads the labels.
        init_cfg (dict, optional): Initialization config. Defaults to dict(type='Kaiming', layer='Conv2d').
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int] = (32, 32),
        ignore_index: int = 255,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = dict(type='Kaiming', layer='Conv2d'),  # noqa: B006  as in MMSegmentation
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        sizes = zip((num_classes, *channels), channels, strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(into, out, 3, padding=1) for into, out in sizes)
        self.edges = nn.Conv2d(channels[-1], num_classes, 1)

    def forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None, mode: str = 'tensor'
    ) -> Tensor | dict[str, Tensor] | list[SegDataSample]:
        """Predict edges.

        Args:
            inputs (Tensor): Probability map, (B, num_classes, H, W), for mode 'tensor'. The other modes ignore it and
                use the one-hot labels.
            data_samples (list[SegDataSample], optional): With gt_sem_seg, for modes 'loss' and 'predict'.
            mode (str): 'tensor', 'loss' or 'predict'.

        Returns:
            Tensor | dict[str, Tensor] | list[SegDataSample]: Edge logits, (B, num_classes, H, W), for 'tensor';
            ``loss_edge`` for 'loss'; for 'predict' the samples with ``pred_edge``, the edge probability in percent,
            (num_classes, H, W) uint8 in [0, 100).
        """
        if mode == 'tensor':
            return self._edge_logits(inputs)
        assert data_samples is not None  # the loops pass labels
        if mode == 'loss':
            label = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
            edges, valid = semantic_edges(label, self.num_classes, ignore_index=self.ignore_index)
            return dict(loss_edge=balanced_bce(self._edge_logits(self._one_hot(label)), edges, valid))
        for sample in data_samples:
            logits = self._edge_logits(self._one_hot(sample.gt_sem_seg.data))[0]
            sample.pred_edge = PixelData(data=(100 * logits.sigmoid()).clamp(max=99).to(torch.uint8))
        return data_samples

    @torch.no_grad()
    def scale_features(self, data_samples: list[SegDataSample]) -> None:
        """Scale the layers so that the features of each have mean square 1 on labels, without changing the edges.

        ReLU is positively homogeneous, so a layer can be scaled down if the next one is scaled up. Gatys et al. ("Image
        Style Transfer Using Convolutional Neural Networks", 2016) do this with VGG. The magnitude of a loss of the
        features then does not depend on how the network was trained.

        Args:
            data_samples (list[SegDataSample]): With gt_sem_seg, all of one size.

        Raises:
            ValueError: All labels are void, or the features of a layer are all 0 or not finite.
        """
        label = torch.cat([sample.gt_sem_seg.data for sample in data_samples])
        features, valid = self._one_hot(label), ~void_mask(label, self.ignore_index)
        for layer, following in pairwise([*self.layers, self.edges]):
            (features,) = edge_features(features, [(layer.weight, layer.bias)])
            size = features.square().mean(1)[valid].mean().sqrt()
            if not 0 < size < math.inf:
                raise ValueError(
                    'the edge network is unusable: the root mean square of the features of a layer must be positive '
                    f'and finite, got {size.item()}. All labels are void, or the training diverged'
                )
            features /= size
            layer.weight /= size
            layer.bias /= size
            following.weight *= size

    def _edge_logits(self, probability: Tensor) -> Tensor:
        weights: list[Any] = [(layer.weight, layer.bias) for layer in self.layers]
        *_, features = edge_features(probability, weights)
        return self.edges(features)

    def _one_hot(self, label: Tensor) -> Tensor:
        void = void_mask(label, self.ignore_index)
        return one_hot_map(label.masked_fill(void, 0), void, self.num_classes)


def save_edge_network(network: EdgeNetwork, path: str) -> None:
    """Save only the weights of a trained network, so that the file loads without this package."""
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    # Through MMEngine's file backend, which the tools make write atomically.
    save_checkpoint(dict(state_dict=weights), str(path))


def load_edge_layers(path: str) -> list[tuple[Tensor, Tensor]]:
    """Load (weight, bias) of the layers of an edge network, without its last convolution.

    Args:
        path (str): File or URL, as in MMEngine's ``load_checkpoint``.

    Raises:
        ValueError: There is no such file, or it does not contain an edge network.
    """
    if '://' not in path and not osp.isfile(osp.expanduser(path)):
        raise ValueError(
            f"edge network '{path}' not found. To train it on the labels of your dataset: "
            f'python tools/train_edge_network.py CONFIG --work-dir {osp.dirname(path) or "."}'
            + ('' if osp.basename(path) == FILE_NAME else f', which writes {FILE_NAME} there')
        )
    expected = f'expected the {FILE_NAME} that tools/train_edge_network.py writes'
    try:
        with torch.device('cpu'):  # also where a model is built under torch.device('meta')
            checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"'{path}' does not contain an edge network: {expected}") from error
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else {}
    names = [f'layers.{index}' for index in range(len(weights))]
    layers = [(weights[f'{name}.weight'], weights[f'{name}.bias']) for name in names if f'{name}.weight' in weights]
    if not layers or 'edges.weight' not in weights:
        raise ValueError(f"'{path}' does not contain an edge network: {expected}")
    if not all(value.isfinite().all() for layer in layers for value in layer):
        raise ValueError(f"the edge network '{path}' is unusable: some of its weights are not finite")
    return layers
