from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral

import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from torch import Tensor

from mmseg_cpg.ops._validation import check_ignore_index, check_int
from mmseg_cpg.structures import Targets, pack_boundary


class BoundaryFromLabel(BaseTransform):
    """Computes targets from the padded label and adds them to the data sample.

    Args:
        ignore_index (int): The decode head's ``ignore_index``.
        pad_size (tuple[int, int], optional): (height, width) to pad to, ``size`` of ``SegDataPreProcessor``. Larger
            labels are not padded, as there.
        seg_pad_val (int): ``seg_pad_val`` of ``SegDataPreProcessor``, which must be ``ignore_index``.
        size_divisor (int, optional): ``size_divisor`` of ``SegDataPreProcessor``, in place of ``pad_size``: height and
            width are padded to multiples of it.

    Raises:
        TypeError, ValueError: An argument has a wrong type or value; when called, there is no data sample or label.
    """

    def __init__(
        self, ignore_index: int, pad_size: tuple[int, int] | None, seg_pad_val: int, size_divisor: int | None = None
    ) -> None:
        check_ignore_index(ignore_index)
        _check_pad_size(pad_size)
        if size_divisor is not None:
            check_int('size_divisor', size_divisor, 1)
            if pad_size is not None:
                raise ValueError(f'size_divisor must be None with pad_size={pad_size}, got {size_divisor}')
        if seg_pad_val != ignore_index:
            raise ValueError(
                'seg_pad_val must be ignore_index, or padding is labeled as a class, got '
                f'seg_pad_val={seg_pad_val} and ignore_index={ignore_index}'
            )
        self.ignore_index = ignore_index
        self.pad_size = pad_size
        self.seg_pad_val = seg_pad_val
        self.size_divisor = size_divisor

    @abstractmethod
    def make_targets(self, label: Tensor) -> Mapping[str, Targets]:
        """The targets of a label (H, W) by field name in ``gt_boundary``."""

    def transform(self, results: dict) -> dict:
        """Add the targets to ``gt_boundary`` of the data sample."""
        sample = results.get('data_samples')
        if sample is None:
            raise ValueError(f'{type(self).__name__} found no data sample: place it after PackSegInputs')
        if 'gt_sem_seg' not in sample:
            raise ValueError(f'{type(self).__name__} found no label: place LoadAnnotations before PackSegInputs')
        boundary = pack_boundary(self.make_targets(self._pad(sample.gt_sem_seg.data)))
        if 'gt_boundary' in sample:  # another transform's
            sample.gt_boundary.update(boundary)
        else:
            sample.gt_boundary = boundary
        return results

    def _pad(self, label: Tensor) -> Tensor:
        if label.dim() != 3 or len(label) != 1:
            raise ValueError(f'the label must have shape (1, H, W), got {tuple(label.shape)}')
        height, width = label.shape[1:]
        divisor = self.size_divisor or 1
        pad_height, pad_width = self.pad_size or (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        padding = (0, max(pad_width - width, 0), 0, max(pad_height - height, 0))
        # F.pad copies even without padding.
        return F.pad(label[0], padding, value=self.seg_pad_val) if any(padding) else label[0]


def _check_pad_size(pad_size: tuple[int, int] | None) -> None:
    is_size = isinstance(pad_size, Sequence) and [isinstance(px, Integral) and px > 0 for px in pad_size] == [True] * 2
    if pad_size is not None and not is_size:
        raise ValueError(f'pad_size must be None or (height, width) in pixels, got {pad_size!r}')
