import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops.semantic_edges import balanced_bce, one_hot_map, semantic_edges
from tests.inputs import blobs
from tests.oracles import semeda_loss as oracle


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 5),
    st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([0, 0.03, 1]),
    st.integers(0, 2**32 - 1),
)
def test_edges_are_those_of_the_oracle(num_classes, shape, void, seed):
    label = blobs(shape, num_classes, void, seed)
    edges, counted = semantic_edges(label, num_classes)
    expected_edges, expected_counted = oracle.semantic_edges(label.numpy(), num_classes)
    assert np.array_equal(edges.numpy(), expected_edges)
    assert np.array_equal(counted.numpy(), expected_counted)
    assert not (edges & ~counted[:, None]).any()


def test_another_ignore_index_and_an_empty_batch():
    label = blobs((2, 12, 13), 4, 0.03)
    for one, other in zip(
        semantic_edges(label, 4), semantic_edges(label.where(label != 255, -1), 4, ignore_index=-1), strict=True
    ):
        assert torch.equal(one, other)
    edges, counted = semantic_edges(label[:0], 4)
    assert edges.shape == (0, 4, 12, 13)
    assert counted.shape == (0, 12, 13)


def test_an_id_out_of_range_is_named():
    with pytest.raises(ValueError, match=r'label must be in \[0, 2\) or ignore_index=255, got 3'):
        semantic_edges(torch.tensor([[[0, 3]]]), 2)


def test_one_hot_map():
    ids, void = torch.tensor([[[2, 0, 0]]]), torch.tensor([[[False, False, True]]])
    expected = [[[[0, 1, 0]], [[0, 0, 0]], [[1, 0, 0]]]]
    assert one_hot_map(ids, void, 3, torch.float64).tolist() == expected


@pytest.mark.parametrize('void', [0, 0.05, 1])
def test_balanced_bce(void):
    label = blobs((2, 11, 12), 3, void)
    edges, counted = semantic_edges(label, 3)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(edges.shape, generator=generator, dtype=torch.float64)).requires_grad_()
    loss = balanced_bce(logits, edges, counted)
    expected = oracle.balanced_bce(logits.detach().numpy(), edges.numpy(), counted.numpy())
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[~counted[:, None].expand_as(edges)].any()
    assert gradient[edges].abs().sum().item() == pytest.approx(
        0 if void == 1 else (logits.sigmoid() - 1)[edges].abs().mean().item() / 2
    )
