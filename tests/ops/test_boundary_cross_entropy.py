import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmseg_cpg.ops import boundary_cross_entropy_loss
from tests.inputs import blobs, random_logits
from tests.ops.cpg.test_loss import assert_close
from tests.oracles import boundary_cross_entropy_loss as oracle


def oracle_loss(logits, label, width_px, ignore_policy='exclude', weight=None, class_weight=None):
    """Mean loss and its gradient, in float64; and e."""
    pixels = oracle.band(label.numpy(), width_px, logits.shape[1], ignore_policy=ignore_policy)
    upstream = np.ones(label.shape) if weight is None else weight.numpy()
    values = logits.detach().double().numpy()
    error, gradient = oracle.cross_entropy(values, label.numpy(), pixels, class_weight, upstream)
    count = max(len(pixels), 1)
    return (upstream * error).sum() / count, torch.from_numpy(gradient / count), torch.from_numpy(error)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(('num_classes', 'void'), [(1, 0.02), (2, 0), (4, 0), (4, 0.02)])
@pytest.mark.parametrize(('width_px', 'ignore_policy'), [(1, 'exclude'), (3, 'exclude'), (2, 'as_background')])
def test_loss_and_gradient_are_those_of_the_oracle(num_classes, void, width_px, ignore_policy, seed):
    shape = (2, *np.random.default_rng(seed).integers(4, 20, 2))
    label = blobs(shape, max(num_classes, 2), void, seed)
    logits = random_logits(label, num_classes, seed=seed)
    expected, expected_gradient, _ = oracle_loss(logits, label, width_px, ignore_policy)
    loss = boundary_cross_entropy_loss(logits, label, width_px, ignore_policy=ignore_policy)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.dtype == torch.float32
    assert_close(loss.detach(), expected)
    assert_close(gradient, expected_gradient)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_weights_and_reductions(num_classes):
    label = blobs((2, 13, 17), max(num_classes, 2), void=0.01)
    logits = random_logits(label, num_classes)
    weight = torch.rand(label.shape, generator=torch.Generator().manual_seed(3))
    class_weight = [0.5, 2.0, 1.5][:num_classes]
    options = dict(weight=weight, class_weight=class_weight)
    expected, expected_gradient, error = oracle_loss(logits, label, 3, **options)
    error = weight * error
    assert_close(boundary_cross_entropy_loss(logits, label, **options).detach(), expected)
    assert_close(boundary_cross_entropy_loss(logits, label, reduction='none', **options).detach(), error)
    assert_close(boundary_cross_entropy_loss(logits, label, reduction='sum', **options).detach(), error.sum())
    assert_close(boundary_cross_entropy_loss(logits, label, avg_factor=7, **options).detach(), error.sum() / 7)
    (gradient,) = torch.autograd.grad(-3 * boundary_cross_entropy_loss(logits, label, **options), logits)
    assert_close(gradient, -3 * expected_gradient)


@pytest.mark.parametrize('num_classes', [1, 3])
def test_gradcheck(num_classes):
    label = blobs((1, 7, 8), max(num_classes, 2), void=0.02)
    logits = random_logits(label, num_classes, dtype=torch.float64)
    assert boundary_cross_entropy_loss(logits, label).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda logits: boundary_cross_entropy_loss(logits, label, reduction='none'), logits)


@pytest.mark.parametrize(('width_px', 'columns'), [(1, range(9, 11)), (2, range(8, 12)), (20, range(16))])
def test_the_band_has_its_width_on_each_side_of_a_boundary(width_px, columns):
    label = torch.zeros(1, 8, 16, dtype=torch.int64)
    label[:, :, 10:] = 1
    logits = random_logits(label, 2)
    error = boundary_cross_entropy_loss(logits, label, width_px, reduction='none')
    assert error.detach().any(1).nonzero()[:, 1].tolist() == [*columns]
    near = [*columns]
    expected = F.cross_entropy(logits[..., near], label[..., near])
    assert_close(boundary_cross_entropy_loss(logits, label, width_px).detach(), expected.detach(), tolerance=1e-6)


def test_an_edge_of_the_void_is_a_boundary_only_as_background():
    label = torch.zeros(1, 8, 16, dtype=torch.int64)
    label[:, :, 10:] = 255
    logits = random_logits(label, 2)
    assert boundary_cross_entropy_loss(logits, label) == 0
    error = boundary_cross_entropy_loss(logits, label, ignore_policy='as_background', reduction='none')
    assert error.detach().any(1).nonzero()[:, 1].tolist() == [7, 8, 9]


@pytest.mark.parametrize('num_classes', [1, 2])
def test_nan_in_the_band_is_seen_and_elsewhere_inert(num_classes):
    label = torch.zeros(1, 8, 16, dtype=torch.int64)
    label[:, :, 10:] = 1
    logits = random_logits(label, num_classes)
    expected = boundary_cross_entropy_loss(logits, label)
    for column in range(16):
        spoiled = logits.detach().clone()
        spoiled[0, 0, 3, column] = float('nan')
        loss = boundary_cross_entropy_loss(spoiled.requires_grad_(), label)
        if 7 <= column < 13:
            assert loss.isnan()
        else:
            assert torch.equal(loss, expected)
            assert torch.autograd.grad(loss, spoiled)[0].isfinite().all()


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(width_px=0), ValueError, 'width_px must be >= 1, got 0'),
        (dict(width_px=1.5), TypeError, 'width_px must be an int, got 1.5'),
        (dict(ignore_policy='ignore'), ValueError, "ignore_policy must be one of .*, got 'ignore'"),
        (dict(reduction='max'), ValueError, "reduction must be one of .*, got 'max'"),
        (dict(class_weight=[1.0]), ValueError, r'class_weight must have shape \(2,\), got \(1,\)'),
    ],
)
def test_bad_input(changes, error, message):
    label = torch.tensor([[[0, 0, 1, 1]] * 4])
    with pytest.raises(error, match=message):
        boundary_cross_entropy_loss(torch.zeros(1, 2, 4, 4), label, **changes)
