import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops.semeda import semeda_loss
from tests.inputs import blobs, random_logits
from tests.oracles import semeda_loss as oracle

# A feature is the sum of up to 55 products and carries some 10 roundings of 6e-8 of its size before terms cancel, its
# gradient twice as many; the networks below have weights and so features of the size of 1.
ERROR = 2e-5


def edge_network(num_classes, channels=(5, 6), ksize=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    sizes = zip((num_classes, *channels), channels, strict=False)
    layers = [(torch.randn(out, into, ksize, ksize, generator=generator), torch.randn(out, generator=generator))
              for into, out in sizes]  # fmt: skip
    return [(weight.to(dtype) / 2, bias.to(dtype) / 2) for weight, bias in layers]


def oracle_loss(logits, label, network, layers=(0, 1), power=2, weight=None):
    """Sum of weight * e, its gradient, and e, in float64."""
    upstream = np.ones(label.shape) if weight is None else weight.double().numpy()
    network = [(weight.double().numpy(), bias.double().numpy()) for weight, bias in network]
    error, gradient = oracle.semeda(logits.detach().double().numpy(), label.numpy(), network, layers, power, upstream)
    return (upstream * error).sum(), torch.from_numpy(gradient), torch.from_numpy(error)


def assert_close(actual, expected, tolerance=ERROR):
    actual, expected = torch.as_tensor(actual).detach().double(), torch.as_tensor(expected).double()
    assert actual.shape == expected.shape
    assert (actual - expected).norm() <= tolerance * (1 + expected.norm())


@st.composite
def cases(draw):
    num_classes = draw(st.sampled_from([1, 2, 3]))
    label = blobs(
        (draw(st.integers(1, 2)), draw(st.integers(1, 9)), draw(st.integers(1, 9))),
        max(num_classes, 2),
        void=draw(st.sampled_from([0, 0.05, 0.5, 1])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    logits = random_logits(label, num_classes, draw(st.sampled_from([0, 1, 30])), seed=draw(st.integers(0, 2**31)))
    network = edge_network(max(num_classes, 2), ksize=draw(st.sampled_from([1, 3, 5])), seed=draw(st.integers(0, 99)))
    return logits, label, network, draw(st.sampled_from([(0, 1), (0,), (1,)]))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_loss_and_gradient_are_those_of_the_oracle(case):
    logits, label, network, layers = case
    expected, expected_gradient, error = oracle_loss(logits, label, network, layers)
    loss = semeda_loss(logits, label, network, layers=layers)
    (gradient,) = torch.autograd.grad(loss, logits)
    count = max((label != 255).sum().item(), 1)
    assert loss.dtype == torch.float32
    assert_close(loss, expected / count)
    assert_close(gradient, expected_gradient / count)
    assert_close(semeda_loss(logits, label, network, layers=layers, reduction='none'), error)


@pytest.mark.parametrize('distance', ['l1', 'l2'])
@pytest.mark.parametrize('num_classes', [1, 3])
def test_weights_and_reductions(distance, num_classes):
    label = blobs((2, 9, 8), max(num_classes, 2), void=0.03)
    logits, network = random_logits(label, num_classes), edge_network(max(num_classes, 2))
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    power = int(distance[1])
    expected, expected_gradient, error = oracle_loss(logits, label, network, power=power, weight=weight)
    count = (label != 255).sum().item()
    options = dict(distance=distance, weight=weight)
    assert_close(semeda_loss(logits, label, network, **options), expected / count)
    assert_close(semeda_loss(logits, label, network, reduction='none', **options), weight * error)
    assert_close(semeda_loss(logits, label, network, reduction='sum', **options), expected)
    assert_close(semeda_loss(logits, label, network, avg_factor=7, **options), expected / 7)
    (gradient,) = torch.autograd.grad(-3 * semeda_loss(logits, label, network, **options), logits)
    assert_close(gradient, -3 * expected_gradient / count)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_gradcheck(num_classes):
    label = blobs((2, 5, 6), max(num_classes, 2), void=0.03)
    logits = random_logits(label, num_classes, dtype=torch.float64)
    network = edge_network(max(num_classes, 2), (3, 2))  # of float32: the loss converts it
    assert semeda_loss(logits, label, network).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda logits: semeda_loss(logits, label, network), logits)


@pytest.mark.parametrize('distance', ['l1', 'l2'])
@pytest.mark.parametrize('in_the_void', [0.0, 5.0, float('nan')])
def test_perfect_prediction_has_loss_and_gradient_0_whatever_lies_in_the_void(distance, in_the_void):
    label = blobs((2, 12, 12), 3, void=0.05)
    logits = 1000.0 * (F.one_hot(label.where(label != 255, 0), 3).movedim(3, 1) - 0.5)
    logits = logits.where((label != 255)[:, None], in_the_void).requires_grad_()
    loss = semeda_loss(logits, label, edge_network(3), distance=distance)
    assert loss == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


def test_nan_is_seen():
    label = blobs((1, 9, 9), 3)
    logits = random_logits(label, 3).detach()
    logits[0, 1, 4, 4] = float('nan')
    assert semeda_loss(logits, label, edge_network(3)).isnan()


def test_the_network_is_left_alone_and_gets_a_gradient_only_if_it_asks():
    label = blobs((1, 9, 9), 3)
    network, before = ([tensor for layer in edge_network(3) for tensor in layer] for _ in range(2))
    layers = list(zip(network[::2], network[1::2], strict=True))
    semeda_loss(random_logits(label, 3), label, layers).backward()
    assert all(tensor.grad is None for tensor in network)
    assert all(torch.equal(*pair) for pair in zip(network, before, strict=True))
    network[0].requires_grad_()
    semeda_loss(random_logits(label, 3), label, layers).backward()
    assert network[0].grad.any()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(network=edge_network(5)), 'edge network must have the 3 classes of the logits, got 5'),
        (dict(network=[]), r'network must be a non-empty list of \(weight, bias\), got tensors of shapes \[\]'),
        (dict(network=edge_network(3)[0]), r'must be a non-empty list .* shapes \[\[\(\d, 3, 3, 3\)\], \[\(\d,\)\]\]'),
        (dict(layers=[2]), r'in \[0, 2\) of layers of the edge network, got \[2\]'),
        (dict(layers=[-1]), r'in \[0, 2\) of layers of the edge network, got \[-1\]'),
        (dict(layers=[0, 0]), r'in \[0, 2\) of layers of the edge network, got \[0, 0\]'),
        (dict(layers=[]), r'in \[0, 2\) of layers of the edge network, got \[\]'),
        (dict(distance='l3'), r"distance must be one of \('l1', 'l2'\), got 'l3'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    label = blobs((1, 9, 9), 3)
    with pytest.raises(ValueError, match=message):
        semeda_loss(random_logits(label, 3), label, **{'network': edge_network(3), **options})
