"""A synthetic street scene as image files."""

from pathlib import Path

import cv2
import numpy as np

from .synthetic import HEIGHT, NUM_CLASSES, WIDTH, street_labels


def write_scene(folder):
    """Write an image with smooth shading and camera noise and its label: (paths, bytes of the image file)."""
    label = street_labels(1, NUM_CLASSES, HEIGHT, WIDTH)[0].numpy().astype(np.uint8)
    rng = np.random.default_rng(0)
    color = rng.integers(30, 220, (256, 3))
    shading = cv2.resize(rng.normal(0, 25, (16, 32, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = color[label] + shading + rng.normal(0, 1.2, (HEIGHT, WIDTH, 1))
    paths = str(folder / 'image.png'), str(folder / 'label.png')
    cv2.imwrite(paths[0], image.clip(0, 255).astype(np.uint8))
    cv2.imwrite(paths[1], label)
    return paths, Path(paths[0]).stat().st_size
