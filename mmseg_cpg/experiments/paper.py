"""The paper's Tables 1 to 4 and its recipe; IoU in percent, times in seconds.

Source: G. Shan and S. Jia, "Convolution-based Probability Gradient Loss for Semantic Segmentation", arXiv 2404.06704,
sections 4.3 to 4.7. Tables 1, 2 and 4 are DeepLabv3-R50 on Cityscapes. Kernel size 0 means no CPG loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

DEEPLABV3, OCRNET, LRASPP = 'DeepLabv3-R50', 'OCRNet-HRNetV2-W48', 'LRASPP-MobileNetV3-L'
CITYSCAPES, ADE20K, COCO_STUFF = 'Cityscapes', 'ADE20K', 'COCO-Stuff 10k'
NETWORKS = (OCRNET, DEEPLABV3, LRASPP)
DATASETS = (CITYSCAPES, ADE20K, COCO_STUFF)
KSIZES = (3, 5, 7)

# Cityscapes' classes in MMSegmentation's spelling.
CLASSES = (
    *('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign', 'vegetation'),
    *('terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle'),
)
# Class IoU by kernel size.
TABLE_1 = {
    0: (
        *(98.19, 85.56, 92.40, 58.36, 62.35, 63.71, 66.92, 76.81, 92.23, 62.94),
        *(94.31, 80.24, 60.23, 94.78, 68.94, 84.34, 77.63, 62.67, 75.64),
    ),
    3: (
        *(98.41, 86.89, 92.80, 60.27, 64.15, 67.7, 70.86, 79.99, 92.64, 66.26),
        *(94.57, 82.29, 63.56, 95.48, 73.26, 88.34, 80.27, 65.63, 77.66),
    ),
    5: (
        *(98.40, 87.53, 93.03, 55.87, 61.67, 68.89, 73.44, 81.32, 92.96, 66.84),
        *(95.04, 82.98, 63.11, 95.43, 76.69, 87.21, 79.82, 66.80, 78.42),
    ),
    7: (
        *(98.31, 87.63, 93.22, 60.14, 64.07, 70.23, 70.23, 81.18, 93.07, 66.34),
        *(94.93, 84.06, 66.74, 95.63, 73.29, 88.97, 81.39, 66.01, 75.14),
    ),
}

# mIoU by kernel size and lambda; without CPG it is BASELINE, listed in the table as lambda 0 for each size.
BASELINE = 76.75
TABLE_2 = {
    3: {
        **{0.2: 78.20, 0.4: 78.22, 0.6: 78.57, 0.8: 78.73, 0.9: 78.69, 1.0: 79.00, 1.1: 78.10},
        **{1.2: 78.68, 1.4: 78.79, 1.6: 78.84, 2.0: 78.12},
    },
    5: {
        2.0: 77.78,
        4.0: 78.75,
        6.0: 79.00,
        8.0: 79.23,
        10.0: 79.14,
        12.0: 79.05,
        14.0: 78.80,
        16.0: 79.12,
        18.0: 78.80,
    },
    7: {
        **{1.0: 78.96, 2.0: 79.20, 3.0: 79.12, 4.0: 79.45, 5.0: 79.50, 6.0: 79.17, 7.0: 78.93, 8.0: 79.38},
        **{9.0: 79.31, 10.0: 79.33},
    },
}
BEST_LOSS_WEIGHTS = {ksize: max(sweep, key=sweep.__getitem__) for ksize, sweep in TABLE_2.items()}
# Lambda in configs/_base_/losses: of the order of Table 2's best, divided by the factor by which rounding errors reduce
# the loss with a floating-point boundary.
LOSS_WEIGHTS = {3: 1.0, 5: 2.0, 7: 1.5}

# mIoU without and with CPG, by dataset and network.
TABLE_3 = {
    (CITYSCAPES, OCRNET): (81.56, 81.90),
    (CITYSCAPES, DEEPLABV3): (76.75, 79.00),
    (CITYSCAPES, LRASPP): (72.26, 73.76),
    (ADE20K, OCRNET): (44.76, 47.66),
    (ADE20K, DEEPLABV3): (40.18, 41.25),
    (ADE20K, LRASPP): (33.59, 35.11),
    (COCO_STUFF, OCRNET): (39.79, 40.71),
    (COCO_STUFF, DEEPLABV3): (32.95, 33.50),
    (COCO_STUFF, LRASPP): (29.25, 29.45),
}
# Table 3 does not state the kernel sizes; the number in this cell is that of Table 2.
TABLE_3_KSIZES = {(CITYSCAPES, DEEPLABV3): 3}


class Cost(NamedTuple):
    """A row of Table 4: mIoU, and seconds on an A100-40GB, which rows after the first add to those of the first."""

    miou: float
    forward_s: float
    backward_s: float
    batch_s: float


RMI_LOSS_WEIGHT = 0.5
# By whether RMI loss is used, and kernel size.
TABLE_4 = {
    (False, 0): Cost(76.750, 0.328, 1.634, 1.962),
    (True, 0): Cost(79.875, 0.036, 0.033, 0.069),
    (False, 3): Cost(79.002, 0.027, 0.016, 0.043),
    (False, 5): Cost(79.233, 0.039, 0.039, 0.078),
    (False, 7): Cost(79.504, 0.052, 0.050, 0.102),
    (True, 3): Cost(80.138, 0.067, 0.050, 0.117),
    (True, 5): Cost(79.977, 0.076, 0.072, 0.148),
    (True, 7): Cost(80.046, 0.092, 0.083, 0.175),
}


class Recipe(NamedTuple):
    """How the paper trained a network on a dataset; ``crop`` is (height, width) in pixels."""

    epochs: int
    lr: float
    crop: tuple[int, int]
    total_batch: int
    main_loss: str


def _recipe(network: str, dataset: str) -> Any:
    epochs, lr = {(LRASPP, CITYSCAPES): (200, 0.014), (OCRNET, COCO_STUFF): (110, 0.001)}.get(
        (network, dataset), (175, 0.01)
    )
    if dataset == CITYSCAPES:
        return Recipe(epochs, lr, (1024, 2048), {DEEPLABV3: 12, OCRNET: 8, LRASPP: 16}[network], 'BCE')
    return Recipe(epochs, lr, (520, 520), {DEEPLABV3: 16, OCRNET: 16, LRASPP: 32}[network], 'CE')


RECIPES = {(network, dataset): _recipe(network, dataset) for network in NETWORKS for dataset in DATASETS}
