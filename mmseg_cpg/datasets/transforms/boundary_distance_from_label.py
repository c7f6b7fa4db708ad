from __future__ import annotations

from mmseg.registry import TRANSFORMS
from torch import Tensor

from mmseg_cpg.ops import BoundaryDistance, boundary_distance

from .base import BoundaryFromLabel


@TRANSFORMS.register_module()
class BoundaryDistanceFromLabel(BoundaryFromLabel):
    """Compute the distances to the label's boundary for :class:`~mmseg_cpg.ActiveBoundaryLoss` in the data loader.

    Place it after ``PackSegInputs``, and add ``BoundaryTargetHook`` to ``custom_hooks``, which passes the result to the
    losses. Losses and gradients are unchanged.

    Required Keys:

    - data_samples, with gt_sem_seg ((1, H, W), int64)

    Modified Keys:

    - data_samples, with gt_boundary: a field ``distance`` with ``distance`` ((H, W), float32) of
      :class:`mmseg_cpg.ops.BoundaryDistance`, half the bytes of the label

    Args:
        ignore_index (int): The decode head's ``ignore_index``. Defaults to 255.
        pad_size (tuple[int, int], optional): (height, width) to pad to, ``size`` of ``SegDataPreProcessor``. Larger
            labels are not padded, as there. Defaults to None, no padding.
        seg_pad_val (int): ``seg_pad_val`` of ``SegDataPreProcessor``, which must be ``ignore_index``. Defaults to 255.
        size_divisor (int, optional): ``size_divisor`` of ``SegDataPreProcessor``, in place of ``pad_size``: height and
            width are padded to multiples of it. Defaults to None.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value; when called, there is no data sample or label.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        pad_size: tuple[int, int] | None = None,
        seg_pad_val: int = 255,
        size_divisor: int | None = None,
    ) -> None:
        super().__init__(ignore_index, pad_size, seg_pad_val, size_divisor)

    def make_targets(self, label: Tensor) -> dict[str, BoundaryDistance]:
        """The distances of a label, (H, W), as ``distance``."""
        distance = boundary_distance(label, ignore_index=self.ignore_index)
        return dict(distance=BoundaryDistance(distance, self.ignore_index))

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(ignore_index={self.ignore_index}, pad_size={self.pad_size}, '
            f'seg_pad_val={self.seg_pad_val}, size_divisor={self.size_divisor})'
        )
