from __future__ import annotations

from typing import Any

from mmengine.dataset import ConcatDataset
from mmseg.datasets import CityscapesDataset
from mmseg.registry import DATASETS

VOID = 255
# Label ids of the 19 classes in order; all other ids are void.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
NUM_LABEL_IDS = 34


@DATASETS.register_module()
class AutoLabelledCityscapesDataset(ConcatDataset):
    """Cityscapes' finely labeled training set, followed by its coarse images with automatic labels.

    The automatic labels are those of Tao et al., "Hierarchical Multi-Scale Attention for Semantic Segmentation"
    (arXiv 2005.10821), as extracted from their zip file: named like the images (``*_leftImg8bit.png``), with label ids,
    which are converted to train ids while loading. Use it with :class:`~mmseg_cpg.AutoLabelledSampler`.

    Args:
        data_prefix (dict): Folders ``img_path`` and ``seg_map_path`` of the fine set, ``auto_img_path`` and
            ``auto_seg_map_path`` of the auto-labeled one.
        lazy_init (bool): Whether to defer listing the files to ``full_init``. Defaults to False.
        kwargs: Arguments of ``CityscapesDataset`` for both sets. ``seg_map_suffix`` applies to the fine set only.

    Raises:
        ValueError: ``data_prefix`` lacks a folder.
    """

    def __init__(self, data_prefix: dict, lazy_init: bool = False, **kwargs: Any) -> None:
        prefixes = [
            {key: data_prefix.get(part + key) for key in ('img_path', 'seg_map_path')} for part in ('', 'auto_')
        ]
        if not all(folder for prefix in prefixes for folder in prefix.values()):
            raise ValueError(
                'AutoLabelledCityscapesDataset needs img_path, seg_map_path, auto_img_path and auto_seg_map_path in '
                f'data_prefix, got {dict(data_prefix)}'
            )
        fine = CityscapesDataset(**kwargs, data_prefix=prefixes[0], lazy_init=True)
        auto = CityscapesDataset(
            **{**kwargs, 'seg_map_suffix': '_leftImg8bit.png'}, data_prefix=prefixes[1], lazy_init=True
        )
        train_ids = {label_id: train_id for train_id, label_id in enumerate(LABEL_IDS)}
        own_map = auto.label_map or {}  # if metainfo has fewer classes
        auto.label_map = {
            label_id: own_map.get(train_ids[label_id], train_ids[label_id]) if label_id in train_ids else VOID
            for label_id in range(NUM_LABEL_IDS)
        }
        super().__init__([fine, auto], lazy_init=lazy_init)
