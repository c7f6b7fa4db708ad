import numpy as np
import pytest
import torch

from mmseg_cpg.ops import gradient_features, gradient_layer
from tests.oracles import gradient_layer as oracle

# Differences of float64 numbers below 10 in another order of additions: a few units in the last place.
ATOL = 1e-14


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def expected(values, threshold, edge_side='above'):
    maps = [oracle.gradient_features(each, threshold, edge_side) for each in values.flatten(0, -3).numpy()]
    r, writers = (np.stack(each).reshape(values.shape) for each in zip(*maps, strict=True))
    assert writers.max(initial=0) <= 1, 'a pixel has its value from one window alone'
    return r


# The median range of nine standard normal numbers is about 3.
@pytest.mark.parametrize('edge_side', ['above', 'below'])
@pytest.mark.parametrize('threshold', [0.0, 2.5, 3.0, 3.5, float('inf')])
@pytest.mark.parametrize('size', [(9, 8), (4, 4), (4, 11)])
def test_equals_the_algorithms(size, threshold, edge_side):
    values = features(2, 3, *size)
    r = gradient_features(values, threshold, edge_side)
    np.testing.assert_allclose(r, expected(values, threshold, edge_side), rtol=0, atol=ATOL)


@pytest.mark.parametrize(('threshold', 'edge_side'), [(0, 'above'), (2, 'above'), (3, 'above'), (3, 'below')])
def test_equals_the_algorithms_on_whole_numbers(threshold, edge_side):
    """Ranges that equal the threshold and differences of zero, all exact."""
    values = torch.randint(4, (4, 10, 10), generator=torch.Generator().manual_seed(1)).double()
    r = gradient_features(values, threshold, edge_side)
    np.testing.assert_array_equal(r, expected(values, threshold, edge_side))
    assert r.count_nonzero() > 0


def test_both_sides_of_the_threshold():
    """Of two consecutive windows with an edge on one side of lambda, the sides never give both a value."""
    values = features(1, 40, 40)
    above, below = (gradient_features(values, 3.0, side) for side in ('above', 'below'))
    assert above.count_nonzero() > 100 and below.count_nonzero() > 100
    assert not ((above != 0) & (below != 0)).any()


@pytest.mark.parametrize('size', [(0, 5), (1, 1), (3, 9), (9, 3)])
def test_maps_without_two_windows_have_no_gradient_features(size):
    values = features(2, 3, *size)
    assert torch.equal(gradient_features(values), torch.zeros_like(values))
    assert torch.equal(gradient_layer(values), values)


def test_a_constant_map_is_left_alone():
    values = torch.full((1, 2, 8, 8), 3.0)
    assert torch.equal(gradient_layer(values, 0.0), values)


def test_layer_adds_the_product():
    values = features(2, 3, 8, 8)
    torch.testing.assert_close(gradient_layer(values, 3.0), values * (1 + gradient_features(values, 3.0)))


@pytest.mark.parametrize('edge_side', ['above', 'below'])
def test_gradient(edge_side):
    values = features(2, 1, 6, 7).requires_grad_()
    assert gradient_features(values, 3.0, edge_side).count_nonzero() > 2
    assert torch.autograd.gradcheck(lambda x: gradient_layer(x, 3.0, edge_side), values)


def test_input_is_not_changed():
    values = features(1, 2, 8, 8)
    before = values.clone()
    gradient_layer(values)
    assert torch.equal(values, before)


def test_channels_last_and_empty_batch():
    values = features(2, 4, 9, 7)
    result = gradient_layer(values.to(memory_format=torch.channels_last))
    assert torch.equal(result, gradient_layer(values))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert gradient_layer(values[:0]).shape == (0, 4, 9, 7)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_other_dtypes(dtype):
    values = features(2, 3, 12, 12, dtype=dtype)
    result = gradient_features(values, 0.0)
    assert result.dtype == dtype
    # Each of the four operations rounds by eps / 2 of at most twice the largest difference, 2 * 2 * 4 here.
    error = (result.double() - gradient_features(values.double(), 0.0)).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps / 2 * 16


def test_half_precision_does_not_overflow():
    values = torch.full((1, 5, 5), 40000.0, dtype=torch.float16)
    values[:, 2, 2] = 40032.0
    assert gradient_features(values, 0.0).abs().max() == 32


def test_nan_stays_where_it_is():
    values = features(1, 9, 9)
    values[0, 4, 4] = float('nan')
    result = gradient_layer(values, 0.0)
    assert result.isnan().sum() == 1


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (([[1.0]],), TypeError, 'features must be a floating point torch.Tensor, got list'),
        ((torch.ones(1, 5, 5).long(),), TypeError, 'features must be a floating point torch.Tensor, got torch.int64'),
        ((torch.ones(5),), ValueError, r'features must have shape \(..., H, W\), got \(5,\)'),
        ((torch.ones(1, 5, 5), '1'), TypeError, "threshold must be a number that is not NaN, got '1'"),
        ((torch.ones(1, 5, 5), True), TypeError, 'threshold must be a number that is not NaN, got True'),
        ((torch.ones(1, 5, 5), float('nan')), ValueError, 'threshold must be a number that is not NaN, got nan'),
        ((torch.ones(1, 5, 5), 0.1, 'under'), ValueError, "edge_side must be one of .* got 'under'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        gradient_layer(*arguments)
