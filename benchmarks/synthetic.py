"""Synthetic label maps like those of street scenes."""

import torch
from torch import Tensor

HEIGHT, WIDTH = 1024, 2048
NUM_CLASSES = 19


def street_labels(
    batch: int, num_classes: int, height: int, width: int, pixels_per_region: int = 3200, seed: int = 0
) -> Tensor:
    """Wavy Voronoi regions of random classes above a band of void, like the hood of the recording car.

    With the default size of regions, about 8, 15 and 21 % of all pixels are boundary at ksize 3, 5 and 7, as in street
    scenes.

    Returns:
        (B, H, W) int64, classes in [0, num_classes), void 255 in the lowest 7 % of the rows.
    """
    generator = torch.Generator().manual_seed(seed)
    num_regions = max(2, round(height * width / pixels_per_region))
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing='ij')
    wave = 4 * torch.sin(x / 9) + 4 * torch.sin(y / 7)
    labels = []
    for _ in range(batch):
        center = torch.rand(num_regions, 2, generator=generator)
        class_index = torch.randint(num_classes, (num_regions,), generator=generator)
        nearest, label = torch.full((height, width), torch.inf), torch.zeros(height, width, dtype=torch.int64)
        for (center_y, center_x), region in zip(center * torch.tensor([height, width]), class_index, strict=True):
            distance = (y - center_y + wave).square() + (x - center_x + wave).square()
            closer = distance < nearest
            nearest = torch.where(closer, distance, nearest)
            label = torch.where(closer, region, label)
        label[int(0.93 * height) :] = 255
        labels.append(label)
    return torch.stack(labels)
