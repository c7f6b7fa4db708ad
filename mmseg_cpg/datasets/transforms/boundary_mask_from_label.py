from __future__ import annotations

from collections.abc import Sequence

from mmseg.registry import TRANSFORMS
from torch import Tensor

from mmseg_cpg.ops import BoundaryTargets, boundary_targets
from mmseg_cpg.ops.cpg.options import check_ignore_policy
from mmseg_cpg.ops.cpg.sobel import check_ksize

from .base import BoundaryFromLabel


@TRANSFORMS.register_module()
class BoundaryMaskFromLabel(BoundaryFromLabel):
    """Compute the label's boundary and its gradients for :class:`~mmseg_cpg.CPGLoss` in the data loader.

    Place it after ``PackSegInputs``, and add ``BoundaryTargetHook`` to ``custom_hooks``, which passes the result to the
    losses. Losses and gradients are unchanged.

    Required Keys:

    - data_samples, with gt_sem_seg ((1, H, W), int64)

    Modified Keys:

    - data_samples, with gt_boundary: a field ``ksize3`` (``ksize5``, ...) for each kernel size, with ``pixel`` (int32),
      ``class_index`` (uint8, or wider if the class ids need it) and ``edge_true`` (int8, or wider from ksize 7 on) of
      :class:`mmseg_cpg.ops.BoundaryTargets`

    Args:
        ksize (int | Sequence[int]): ``ksize`` of the loss, or of several losses. Defaults to 3.
        ignore_index (int): The decode head's ``ignore_index``. Defaults to 255.
        ignore_policy (str): The loss's ``ignore_policy``. Defaults to 'exclude'.
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
        ksize: int | Sequence[int] = 3,
        ignore_index: int = 255,
        ignore_policy: str = 'exclude',
        pad_size: tuple[int, int] | None = None,
        seg_pad_val: int = 255,
        size_divisor: int | None = None,
    ) -> None:
        ksizes = ksize if isinstance(ksize, Sequence) and not isinstance(ksize, str) else [ksize]
        self.ksizes = [check_ksize(each) for each in ksizes]
        if not self.ksizes:
            raise ValueError(f'ksize must be an int or a sequence of at least one, got {ksize!r}')
        check_ignore_policy(ignore_policy)
        super().__init__(ignore_index, pad_size, seg_pad_val, size_divisor)
        self.ignore_policy = ignore_policy

    def make_targets(self, label: Tensor) -> dict[str, BoundaryTargets]:
        """The targets of a label, (H, W), for each kernel size, as ``ksize3``, ``ksize5``, ..."""
        options = dict(ignore_index=self.ignore_index, ignore_policy=self.ignore_policy)
        return {f'ksize{ksize}': boundary_targets(label, ksize, **options) for ksize in self.ksizes}

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(ksize={self.ksizes}, ignore_index={self.ignore_index}, '
            f'ignore_policy={self.ignore_policy!r}, pad_size={self.pad_size}, seg_pad_val={self.seg_pad_val}, '
            f'size_divisor={self.size_divisor})'
        )
