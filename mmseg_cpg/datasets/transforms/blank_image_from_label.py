from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class BlankImageFromLabel(BaseTransform):
    """Replace the image by a black one, for training on labels alone.

    Use it in place of ``LoadImageFromFile``, after ``LoadAnnotations``: no image is read or decoded, and the following
    transforms resize, crop and flip the label as usual.

    Required Keys:

    - gt_seg_map ((H, W), uint8)

    Added Keys:

    - img ((H, W, 3), uint8)
    - img_shape, ori_shape ((H, W))
    """

    def transform(self, results: dict) -> dict:
        """Add the image."""
        height, width = results['gt_seg_map'].shape[:2]
        results['img'] = np.zeros((height, width, 3), np.uint8)
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
