from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from mmseg_cpg.ops import BoundaryDistance, active_boundary_loss, stack_distances
from mmseg_cpg.ops.active_boundary import check_boundary_options, check_preset

from .precomputable import PrecomputableLoss, only


@MODELS.register_module()
class ActiveBoundaryLoss(PrecomputableLoss):
    """Active Boundary Loss (Wang et al., AAAI 2022, arXiv 2102.02696) for ``loss_decode``.

    Use it as in its paper, with cross-entropy and the Lovász-softmax loss: ``loss_decode=[dict(
    type='CrossEntropyLoss', ...), dict(type='LovaszLoss', reduction='none'), dict(type='ActiveBoundaryLoss')]``. See
    :func:`mmseg_cpg.ops.active_boundary_loss` for the equations, the choices where the paper is ambiguous, and the
    handling of void pixels and images without boundary.

    ``BoundaryDistanceFromLabel`` and ``BoundaryTargetHook`` move its distance transform, which is slow and on CUDA
    waits for the device, to the data loader. ``preset='official'`` does not use it.

    Args:
        loss_weight (float): Factor of this loss, the paper's w_a. Defaults to 1.0.
        boundary_ratio (float): Upper bound of the share of predicted boundary pixels per image. Defaults to 0.01.
        max_distance (float): Distance to the label's boundary, in pixels, at which the weight saturates, the
            paper's theta. Defaults to 20.0.
        label_smoothing (float): Share of the target that the seven other directions split. Defaults to 0.2.
        preset (str): 'paper', or 'official' for the authors' published code, which differs. Defaults to 'paper'.
        reduction (str): 'none', 'mean' or 'sum'. Defaults to 'mean'.
        loss_name (str): Name in the log; as in MMSegmentation it is part of the total only if it contains 'loss'.
            Defaults to 'loss_abl'.
    """

    family = 'Active Boundary losses'
    target_type = BoundaryDistance
    stack_targets = staticmethod(stack_distances)
    transform = 'mmseg_cpg.BoundaryDistanceFromLabel'

    def __init__(
        self,
        loss_weight: float = 1.0,
        boundary_ratio: float = 0.01,
        max_distance: float = 20.0,
        label_smoothing: float = 0.2,
        preset: str = 'paper',
        reduction: str = 'mean',
        loss_name: str = 'loss_abl',
    ) -> None:
        super().__init__(loss_weight, loss_name, reduction)
        check_boundary_options(boundary_ratio, max_distance, label_smoothing)
        check_preset(preset)
        self.boundary_ratio = boundary_ratio
        self.max_distance = max_distance
        self.label_smoothing = label_smoothing
        self.preset = preset

    @classmethod
    def transform_options(cls, losses: Sequence[tuple[dict, int]]) -> dict[str, Any]:
        """``ignore_index`` of :class:`~mmseg_cpg.BoundaryDistanceFromLabel`."""
        values = {ignore_index for _, ignore_index in losses}
        return dict(ignore_index=only(values, 'ignore_index in all Active Boundary losses'))

    @classmethod
    def uses_targets(cls, options: Mapping[str, Any]) -> bool:
        """Whether the preset is the one with distances."""
        return options.get('preset', 'paper') == 'paper'

    def compute(self, logits: Tensor, label: Tensor, *, ignore_index: int, **options: Any) -> Tensor:
        targets = None
        if self.uses_targets(vars(self)):
            targets = self._take_precomputed((tuple(label.shape), ignore_index), 'label shape, ignore_index')
        return active_boundary_loss(
            logits,
            label,
            ignore_index=ignore_index,
            boundary_ratio=self.boundary_ratio,
            max_distance=self.max_distance,
            label_smoothing=self.label_smoothing,
            distance=None if targets is None else targets.distance,
            preset=self.preset,
            **options,
        )
