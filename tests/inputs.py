"""Random labels and logits."""

import numpy as np
import torch


def blobs(shape, num_classes, void=0.0, seed=0, cell=5):
    """Label (B, H, W) of square cells with single void pixels."""
    rng = np.random.default_rng(seed)
    batch, height, width = shape
    label = rng.integers(0, num_classes, (batch, -(-height // cell), -(-width // cell)))
    label = label.repeat(cell, 1).repeat(cell, 2)[:, :height, :width]
    return torch.from_numpy(np.where(rng.random(shape) < void, 255, label))


def random_logits(label, num_classes, scale=2.0, seed=0, dtype=torch.float32):
    """Logits for a label, with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(label), num_classes, *label.shape[1:])
    return (scale * torch.randn(shape, generator=generator).to(dtype)).requires_grad_()


class WithoutFloat64(torch.Tensor):
    """A tensor on a device without float64, as Apple's are: nothing that is made of it can be that, except on the CPU.

    ``cpu()`` is the way there.
    """

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        result = super().__torch_function__(function, types, arguments, options or {})
        if function is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        for each in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(each, cls) and each.dtype == torch.float64:
                raise TypeError(f'float64 is not supported here, but {function} uses it')
        return result
