from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from torch import Tensor

from mmseg_cpg.ops import boundary_targets
from mmseg_cpg.ops.arguments import check_ignore_index
from mmseg_cpg.ops.boundary import check_ignore_policy
from mmseg_cpg.ops.kernels import check_ksize
from mmseg_cpg.structures import pack_boundary


@TRANSFORMS.register_module()
class BoundaryMaskFromLabel(BaseTransform):
    """Make the label's boundary and its gradients for :class:`~mmseg_cpg.CPGLoss` while loading.

    Place it after ``PackSegInputs``, and add ``BoundaryTargetHook`` to ``custom_hooks``, which hands the result to the
    losses. Losses and gradients are those without it.

    Required Keys:

    - data_samples, with gt_sem_seg ((1, H, W), int64)

    Modified Keys:

    - data_samples, with gt_boundary: a field ``ksize3`` (``ksize5``, ...) for each kernel size, with pixel (int32),
      category (uint8, or wider where the class ids need it) and gradient (int8, or wider from ksize 7 on) of
      :class:`mmseg_cpg.ops.BoundaryTargets`

    Args:
        ksize (int | Sequence[int]): ``ksize`` of the loss, or of all losses that train together. Defaults to 3.
        ignore_index (int): The decode head's ``ignore_index``. Defaults to 255.
        ignore_policy (str): The loss's ``ignore_policy``. Defaults to 'exclude'.
        pad_size (tuple[int, int], optional): (height, width) that ``SegDataPreProcessor`` will pad to, its ``size``.
            Larger labels stay as they are, as they do there. Defaults to None, no padding.
        seg_pad_val (int): ``SegDataPreProcessor``'s ``seg_pad_val``, which must be ``ignore_index``. Defaults to 255.

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
    ) -> None:
        ksizes = ksize if isinstance(ksize, Sequence) and not isinstance(ksize, str) else [ksize]
        self.ksizes = [check_ksize(each) for each in ksizes]
        if not self.ksizes:
            raise ValueError(f'ksize must be an int or a sequence of at least one, got {ksize!r}')
        check_ignore_index(ignore_index)
        check_ignore_policy(ignore_policy)
        _check_pad_size(pad_size)
        if seg_pad_val != ignore_index:
            raise ValueError(
                f'seg_pad_val must be ignore_index, or padding would be labelled as a class; got '
                f'seg_pad_val={seg_pad_val} and ignore_index={ignore_index}'
            )
        self.ignore_index = ignore_index
        self.ignore_policy = ignore_policy
        self.pad_size = pad_size
        self.seg_pad_val = seg_pad_val

    def transform(self, results: dict) -> dict:
        """Add ``gt_boundary`` to the data sample."""
        sample = results.get('data_samples')
        if sample is None:
            raise ValueError('BoundaryMaskFromLabel found no data sample: place it after PackSegInputs')
        if 'gt_sem_seg' not in sample:
            raise ValueError('BoundaryMaskFromLabel found no label: place LoadAnnotations before PackSegInputs')
        label = self._pad(sample.gt_sem_seg.data)
        sample.gt_boundary = pack_boundary(
            boundary_targets(label, ksize, ignore_index=self.ignore_index, ignore_policy=self.ignore_policy)
            for ksize in self.ksizes
        )
        return results

    def _pad(self, label: Tensor) -> Tensor:
        if label.dim() != 3 or len(label) != 1:
            raise ValueError(f'the label must have shape (1, H, W), got {tuple(label.shape)}')
        height, width = label.shape[1:]
        pad_height, pad_width = self.pad_size or (height, width)
        padding = (0, max(pad_width - width, 0), 0, max(pad_height - height, 0))
        # F.pad copies also where there is nothing to pad.
        return F.pad(label[0], padding, value=self.seg_pad_val) if any(padding) else label[0]

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(ksize={self.ksizes}, ignore_index={self.ignore_index}, '
            f'ignore_policy={self.ignore_policy!r}, pad_size={self.pad_size}, seg_pad_val={self.seg_pad_val})'
        )


def _check_pad_size(pad_size: tuple[int, int] | None) -> None:
    is_size = isinstance(pad_size, Sequence) and [isinstance(px, Integral) and px > 0 for px in pad_size] == [True] * 2
    if pad_size is not None and not is_size:
        raise ValueError(f'pad_size must be None or (height, width) in pixels, got {pad_size!r}')
