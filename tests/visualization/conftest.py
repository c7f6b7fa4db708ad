import numpy as np
import pytest

from mmseg_cpg.visualization import Prediction, Scene

CLASSES = ('sky', 'pole', 'road')
PALETTE = ((70, 130, 180), (10, 200, 10), (128, 64, 128))


@pytest.fixture
def label():
    """48 x 64 px: a pole of 6 px in front of the sky, road below, void along the left side."""
    label = np.zeros((48, 64), np.int64)
    label[36:] = 2
    label[:40, 30:36] = 1
    label[:, :3] = 255
    return label


def predict(name, label, seed, errors=()):
    """A prediction with random probabilities whose largest is the label's class, or another one at some pixels."""
    classes = np.where(label == 255, 0, label)
    for pixel in errors:
        classes[pixel] = (classes[pixel] + 1) % 3
    probability = np.random.default_rng(seed).random((3, *label.shape))
    np.put_along_axis(probability, classes[None], 1.5, 0)
    return Prediction(name, classes, (probability / probability.sum(0)).astype(np.float32))


@pytest.fixture
def scene(label):
    """Two models; the first is wrong at (10, 29) and (11, 29), the second at (11, 29) and (0, 50)."""
    image = np.random.default_rng(0).integers(0, 256, (*label.shape, 3), np.uint8)
    first = predict('CE', label, 1, [(10, 29), (11, 29)])
    second = predict('CE + CPG', label, 2, [(11, 29), (0, 50)])
    return Scene(image, label, [first, second], CLASSES, PALETTE)
