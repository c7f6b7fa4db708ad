from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class BlankImageFromLabel(BaseTransform):
    """Put a black image where a pipeline has the image, for training on labels alone.

    In place of ``LoadImageFromFile`` and after ``LoadAnnotations``: no image is read or decoded, and the transforms
    that follow resize, crop and flip the label as they do with an image.

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
