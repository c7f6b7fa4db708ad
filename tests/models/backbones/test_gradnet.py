import pytest
import torch
from mmcv.cnn import ConvModule
from mmseg.models.losses import DiceLoss
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import nn

import mmseg_cpg
from mmseg_cpg import GraDNet
from mmseg_cpg.ops import gradient_layer

# Table 1, without Gra, the max pooling and Conv16: output channels, kernel size, stride in the kernel's direction.
TABLE_1 = [
    (128, (11, 11), (4, 4)),
    *[(16, (1, 3), (1, 2)), (16, (3, 1), (2, 1)), (8, (1, 5), (1, 2)), (8, (5, 1), (2, 1))] * 3,
    *[(16, (1, 3), (1, 2)), (16, (3, 1), (2, 1))],
]


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = GraDNet()
    net.init_weights()
    return net


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_has_the_convolutions_of_table_1_and_no_other(net):
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert [(conv.out_channels, conv.kernel_size, conv.stride) for conv in convs] == TABLE_1


def test_is_found_by_both_names():
    register_all_modules(init_default_scope=True)
    for name in ('GraDNet', 'mmseg_cpg.GraDNet'):
        assert type(MODELS.build(dict(type=name))) is mmseg_cpg.GraDNet


def test_forward_is_what_the_docstring_says(net):
    net.eval()
    convs = [module for module in net.modules() if isinstance(module, ConvModule)]

    def run(x, *numbers):
        for number in numbers:
            conv = convs[number - 1]
            # Out of training, an unused batch norm multiplies by almost 1.
            x = conv.conv(x) / (1 + conv.norm.eps) ** 0.5
            x = x if number in (7, 11, 15) else x.relu()
        return x

    image = images(2, 3, 150, 131)
    x = run(image, 1)
    assert x.shape == (2, 128, 38, 33)
    x = run(gradient_layer(x, 0.1), 2, 3)
    for number in (4, 8, 12):
        low = run(x, *range(number, number + 4))
        assert low.shape == (2, 16, 5, 5)
        x = (x + nn.functional.interpolate(low, x.shape[2:], mode='bilinear')).relu()
    torch.testing.assert_close(net(image)[0], nn.functional.max_pool2d(x, 3, 1, 1))


@pytest.mark.parametrize('size', [(500, 500), (37, 130), (5, 9), (1, 1)])
def test_any_size(net, size):
    (features,) = net(images(2, 3, *size))
    assert features.shape == (2, 16, *((each + 7) // 8 for each in size))
    assert features.isfinite().all()


def test_arguments_reach_the_gradient_layer():
    outputs = {}
    for threshold in (0.1, 1.0):
        for edge_side in ('above', 'below'):
            torch.manual_seed(0)
            (output,) = GraDNet(threshold=threshold, edge_side=edge_side)(images(2, 3, 64, 64))
            outputs[threshold, edge_side] = output.detach()
    assert len({output.sum().item() for output in outputs.values()}) == 4


def test_every_parameter_gets_a_gradient(net):
    (features,) = net(images(2, 3, 600, 64))
    features.square().sum().backward()
    assert all(parameter.grad.count_nonzero() > 0 for parameter in net.parameters())


def test_one_channel_images_and_group_norm():
    net = GraDNet(in_channels=1, norm_cfg=dict(type='GN', num_groups=4))
    assert net(images(1, 1, 64, 64))[0].shape == (1, 16, 8, 8)


def test_under_autocast(net):
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (features,) = net(images(2, 3, 96, 96))
    features.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_channels_last(net):
    x = images(2, 3, 96, 64)
    expected = net(x)[0]
    actual = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))[0]
    # Sums of up to 363 products in another order, and the batch norms behind them.
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('shape', [(3, 64, 64), (2, 1, 64, 64), (2, 3, 0, 64)])
def test_bad_images(net, shape):
    with pytest.raises(ValueError, match=r'GraDNet expects images of shape \(B, 3, H, W\) with H, W > 0, got'):
        net(torch.zeros(shape))


def test_one_small_image_cannot_train_batch_norms(net):
    with pytest.raises(ValueError, match=r'two or more images, or images larger than 32 px, .* got .*\(1, 3, 32, 9\)'):
        net(images(1, 3, 32, 9))
    net(images(1, 3, 33, 9))
    net(images(2, 3, 32, 9))
    net.eval()(images(1, 3, 32, 9))


@pytest.mark.parametrize(
    ('arguments', 'error'), [(dict(threshold='0.1'), TypeError), (dict(edge_side='left'), ValueError)]
)
def test_bad_arguments(arguments, error):
    with pytest.raises(error, match=f'{next(iter(arguments))} must be'):
        GraDNet(**arguments)


def dice(logits, label, **settings):
    """MMSegmentation's DiceLoss as the configs use it, and its gradient."""
    logits = logits.detach().requires_grad_()
    loss = DiceLoss(**{**dict(use_sigmoid=False, naive_dice=True), **settings})(logits, label)
    return loss.detach(), *torch.autograd.grad(loss, logits)


def test_what_the_stock_dice_loss_does_with_void_pixels():
    """It counts their probabilities, whose sum is constant with the softmax, so that nothing is learned from them."""
    logits = images(1, 5, 4, 4).double()
    label = torch.arange(16).view(1, 4, 4) % 5
    ids = label.clone()
    label[:, 0] = 255
    loss, gradient = dice(logits, label)
    hits = logits.softmax(1).gather(1, ids[:, None])[:, :, 1:].sum()
    eps = 1e-3
    torch.testing.assert_close(loss, 1 - (2 * hits + eps) / (16 + 12 + eps))
    assert gradient[:, :, 0].abs().max() < 1e-16
    perfect = 100 * nn.functional.one_hot(ids, 5).permute(0, 3, 1, 2).double()
    torch.testing.assert_close(dice(perfect, label, eps=0)[0].item(), 4 / (2 * 16 - 4))
    for settings in (dict(use_sigmoid=True), dict(naive_dice=False)):
        assert dice(logits, label, **settings)[1][:, :, 0].abs().min() > 1e-6


def test_stock_dice_loss_of_void_alone():
    loss, gradient = dice(images(2, 5, 4, 4).double(), torch.full((2, 4, 4), 255))
    torch.testing.assert_close(loss.item(), 1 - 1e-3 / (16 + 1e-3))
    assert gradient.abs().max() < 1e-16
