import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_cpg.ops import boundary_targets, sobel_numerators, stack_targets
from mmseg_cpg.ops._morphology import window_extremum
from mmseg_cpg.ops.cpg import targets as cpg_targets
from tests.oracles import cpg_loss as oracle

KSIZES = [3, 5, 7, 9, 11]


def as_entries(targets):
    """{(image, class, direction, row, column): numerator} without the zeros, as the oracle gives them."""
    shape = (1, *targets.shape)[-3:]
    image, row, column = np.unravel_index(targets.pixel.numpy(), shape)
    entries = {}
    for direction in (0, 1):
        for b, c, i, j, g in zip(image, targets.class_index, row, column, targets.edge_true[direction], strict=True):
            if g != 0:
                entries[int(b), int(c), direction, int(i), int(j)] = int(g)
    return entries


def expected_entries(label, ksize, **kwargs):
    denominator = sobel_numerators(ksize)[1]
    entries = oracle.boundary(label, ksize, num_classes=2, **kwargs)
    return {entry: int(gradient * denominator) for entry, gradient in entries.items()}


@st.composite
def labels(draw):
    shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20)))
    num_classes = draw(st.integers(1, 5))
    cell = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    label = rng.integers(0, num_classes, (shape[0], *(-(-size // cell) for size in shape[1:])))
    label = label.repeat(cell, 1).repeat(cell, 2)[:, : shape[1], : shape[2]]
    return np.where(rng.random(shape) < draw(st.sampled_from([0, 0, 0.02, 0.3])), 255, label)


@settings(max_examples=80, deadline=None)
@given(labels(), st.sampled_from(KSIZES), st.sampled_from(['exclude', 'as_background']))
def test_same_as_oracle(label, ksize, ignore_policy):
    targets = boundary_targets(label, ksize, ignore_policy=ignore_policy)
    assert as_entries(targets) == expected_entries(label, ksize, ignore_policy=ignore_policy)


@pytest.fixture
def many_bands(monkeypatch):
    """Bands of one row of tiles, in three threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(cpg_targets, '_SMALLEST_BAND', 1)
    monkeypatch.setattr(cpg_targets, 'num_threads', lambda device: 100)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('ksize', KSIZES)
@pytest.mark.parametrize('ignore_policy', ['exclude', 'as_background'])
@pytest.mark.parametrize('height', [1, 8, 30])
def test_bands_give_what_the_whole_label_gives(ksize, ignore_policy, height, request):
    generator = torch.Generator().manual_seed(height)
    label = torch.randint(0, 5, (2, height, 21), generator=generator).repeat_interleave(3, 2)
    label[torch.rand(label.shape, generator=generator) < 0.01] = 255
    whole = boundary_targets(label, ksize, ignore_policy=ignore_policy)
    request.getfixturevalue('many_bands')
    assert len(cpg_targets._bands(label.shape, label.device)) == 2 * -(-height // 8)
    banded = boundary_targets(label, ksize, ignore_policy=ignore_policy)
    for name in ('pixel', 'class_index', 'edge_true'):
        assert torch.equal(getattr(banded, name), getattr(whole, name))


@settings(max_examples=20, deadline=None)
@given(labels(), st.sampled_from(KSIZES))
def test_mask_marks_the_pixels_of_the_entries(label, ksize):
    expected = np.zeros(label.shape, bool)
    for b, _, _, i, j in oracle.boundary(label, ksize, num_classes=2):
        expected[b, i, j] = True
    np.testing.assert_array_equal(boundary_targets(label, ksize).mask().numpy(), expected)


@pytest.mark.parametrize('ksize', KSIZES)
def test_no_surplus_entries_inside_objects(ksize):
    label = np.zeros((64, 64), dtype=np.uint8)
    label[:, 32:] = 1
    targets = boundary_targets(label, ksize)
    column = targets.pixel % 64
    assert set(column.tolist()) == set(range(32 - ksize // 2, 32 + ksize // 2))


@pytest.mark.parametrize('dtype', ['uint8', 'int8', 'int16', 'int32', 'int64', 'uint16'])
def test_numpy_and_every_integer_dtype_agree_to_the_bit(dtype):
    label = torch.randint(0, 4, (2, 19, 23), generator=torch.Generator().manual_seed(0))
    label[:, 5:7, 3:9] = 100
    expected = boundary_targets(label, 5, ignore_index=100)
    tensors = [label.to(getattr(torch, dtype))] if hasattr(torch, dtype) else []  # torch 2.1 has no uint16
    array = label.numpy().astype(dtype)
    for other in (*tensors, array, np.asfortranarray(array)):
        actual = boundary_targets(other, 5, ignore_index=100)
        for name in ('pixel', 'class_index', 'edge_true'):
            assert getattr(actual, name).dtype == getattr(expected, name).dtype
            assert torch.equal(getattr(actual, name), getattr(expected, name))


@pytest.mark.parametrize('axis', [0, 1, (0, 1)])
def test_flipped_numpy_label_with_one_row(axis):
    label = np.array([[0, 0, 0, 1, 1]])
    flipped = np.flip(label, axis)
    expected = boundary_targets(torch.from_numpy(flipped.copy()), 3)
    assert torch.equal(boundary_targets(flipped, 3).pixel, expected.pixel)


def test_uint64_id_that_int64_cannot_represent():
    label = np.array([[0, 1, 2**64 - 2]], dtype=np.uint64)
    with pytest.raises(ValueError, match=f'got {2**64 - 2}$'):
        boundary_targets(label, 3)


def test_batch_is_its_images_one_after_another():
    label = torch.randint(0, 3, (3, 21, 17), generator=torch.Generator().manual_seed(1))
    batch = boundary_targets(label, 3)
    images = [boundary_targets(image, 3) for image in label]
    offset = torch.arange(3).repeat_interleave(torch.tensor([len(image) for image in images])) * 21 * 17
    assert torch.equal(batch.pixel, torch.cat([image.pixel for image in images]) + offset)
    assert torch.equal(batch.class_index, torch.cat([image.class_index for image in images]))
    assert torch.equal(batch.edge_true, torch.cat([image.edge_true for image in images], 1))


@pytest.mark.parametrize(('highest', 'dtype'), [(254, torch.uint8), (300, torch.int16), (70_000, torch.int32)])
def test_class_index_has_the_smallest_dtype(highest, dtype):
    targets = boundary_targets(np.array([[0, 0, highest, highest]]), 3, ignore_index=-1)
    assert targets.class_index.dtype == dtype
    assert sorted(set(targets.class_index.tolist())) == [0, highest]


def test_edge_dtype_grows_with_ksize():
    dtypes = [boundary_targets(np.eye(12, dtype=int), ksize).edge_true.dtype for ksize in KSIZES]
    assert dtypes == [torch.int8, torch.int8, torch.int16, torch.int32, torch.int32]


@pytest.mark.parametrize('ignore_index', [-100, 1000])
def test_ignore_index_outside_the_label_dtype_ignores_nothing(ignore_index):
    label = np.array([[0, 0, 156, 156, 232, 232]], dtype=np.uint8)  # 156 and 232 are -100 and 1000 modulo 256
    assert set(boundary_targets(label, 3, ignore_index=ignore_index).class_index.tolist()) == {0, 156, 232}


def test_class_255_exists_where_another_id_is_void():
    targets = boundary_targets(np.array([[0, 0, 255, 255]], dtype=np.uint8), 3, ignore_index=254)
    assert set(targets.class_index.tolist()) == {0, 255}


@pytest.mark.parametrize(
    'label', [np.full((8, 9), 255), np.full((8, 9), 3), np.zeros((1, 1), int), np.zeros((0, 4, 4), int)]
)
@pytest.mark.parametrize('ignore_policy', ['exclude', 'as_background'])
def test_no_boundary(label, ignore_policy):
    targets = boundary_targets(label, 3, ignore_policy=ignore_policy)
    assert len(targets) == 0
    assert targets.edge_true.shape == (2, 0)


def test_void_square_as_background():
    label = np.zeros((16, 16), dtype=np.int64)
    label[6:10, 6:10] = 255
    assert len(boundary_targets(label, 3)) == 0
    entries = as_entries(boundary_targets(label, 3, ignore_policy='as_background'))
    # 20 pixels lie around the square; sides see one direction (one pixel next to each corner sees both).
    assert entries == expected_entries(label[None], 3, ignore_policy='as_background')
    assert len({entry[3:] for entry in entries}) == 20


def test_window_extremum_is_a_maximum_filter():
    values = torch.randint(0, 255, (2, 12, 13), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    for ksize in KSIZES:
        expected = torch.nn.functional.max_pool2d(values.float(), ksize, 1)
        assert torch.equal(window_extremum(torch.maximum, values, ksize).float(), expected)


@pytest.mark.parametrize(
    ('label', 'error', 'message'),
    [
        (np.zeros((4, 4)), TypeError, 'label must have an integer dtype, got float64'),
        (torch.zeros(4, 4, dtype=torch.bool), TypeError, 'label must have an integer dtype, got torch.bool'),
        ([[0, 1]], TypeError, 'label must be a torch.Tensor or numpy.ndarray, got list'),
        (np.zeros((1, 1, 4, 4), int), ValueError, r'label must have shape .* got \(1, 1, 4, 4\)'),
        (np.zeros((2, 0, 4), int), ValueError, r'with H, W > 0, got \(2, 0, 4\)'),
        (np.array([[None, 'a']]), TypeError, 'label must have an integer dtype, got object'),
        (np.array([[0, 2**40]]), ValueError, r'label must be in \[0, 2147483647\) .* got 1099511627776'),
        (np.array([[0, -7]]), ValueError, r'label must be in \[0, 2147483647\) or ignore_index=255, got -7'),
    ],
)
def test_bad_label(label, error, message):
    with pytest.raises(error, match=message):
        boundary_targets(label, 3)


def test_label_with_more_pixels_than_int32_can_count():
    label = torch.zeros((), dtype=torch.uint8).expand(2**15, 2**16)  # one byte
    message = r'label must have fewer than 2\^31 pixels, got shape \(1, 32768, 65536\)'
    with pytest.raises(ValueError, match=message):
        boundary_targets(label, 3)


@pytest.mark.parametrize(
    ('num_classes', 'error', 'message'),
    [
        ('a', TypeError, "num_classes must be an int, got 'a'"),
        (0, ValueError, 'num_classes must be >= 1, got 0'),
        (2**40, ValueError, 'num_classes must be <= 2147483647, got 1099511627776'),
    ],
)
def test_bad_number_of_classes(num_classes, error, message):
    with pytest.raises(error, match=message):
        boundary_targets(np.zeros((4, 4), int), 3, num_classes=num_classes)


@pytest.mark.parametrize('ignore_index', [None, '255', 0.5, True])
def test_ignore_index_must_be_an_int(ignore_index):
    with pytest.raises(TypeError, match=f'ignore_index must be an int, got {ignore_index!r}'):
        boundary_targets(np.zeros((4, 4), int), 3, ignore_index=ignore_index)


def test_arrays_that_torch_does_not_take():
    label = np.random.default_rng(0).integers(0, 3, (9, 11))
    read_only = label.copy()
    read_only.flags.writeable = False
    for array, expected in [(label[:, ::-1], label[:, ::-1].copy()), (label.astype('>i4'), label), (read_only, label)]:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            actual = boundary_targets(array, 3)
        assert as_entries(actual) == as_entries(boundary_targets(expected, 3))


@pytest.mark.parametrize('ksize', [3, 11])
def test_chunks_make_no_difference(ksize, monkeypatch):
    label = np.random.default_rng(0).integers(0, 9, (2, 30, 40))
    whole = boundary_targets(label, ksize)
    chunks = lambda n, *_: [slice(i, min(i + 7, n)) for i in range(0, n, 7)]  # noqa: E731
    monkeypatch.setattr('mmseg_cpg.ops.cpg.targets.chunk_slices', chunks)
    for name in ('pixel', 'class_index', 'edge_true'):
        assert torch.equal(getattr(boundary_targets(label, ksize), name), getattr(whole, name))


def test_unknown_policy():
    with pytest.raises(ValueError, match=r"ignore_policy must be one of \('exclude', 'as_background'\), got 'drop'"):
        boundary_targets(np.zeros((4, 4), int), 3, ignore_policy='drop')


@settings(max_examples=40, deadline=None)
@given(labels(), st.sampled_from([3, 7, 9]), st.sampled_from(['exclude', 'as_background']))
def test_stacked_targets_are_those_of_the_batch(label, ksize, ignore_policy):
    label = label.copy()
    label[-1][label[-1] == 4] = 300  # another dtype for the last image's classes
    expected = boundary_targets(label, ksize, ignore_policy=ignore_policy)
    actual = stack_targets([boundary_targets(image, ksize, ignore_policy=ignore_policy) for image in label])
    assert actual.made_with == expected.made_with
    for name in ('pixel', 'class_index', 'edge_true'):
        assert getattr(actual, name).dtype == getattr(expected, name).dtype
        assert torch.equal(getattr(actual, name), getattr(expected, name))


@pytest.mark.parametrize(
    'targets',
    [
        [],
        [boundary_targets(np.eye(4, dtype=int), 3), boundary_targets(np.eye(5, dtype=int), 3)],
        [boundary_targets(np.eye(4, dtype=int), 3), boundary_targets(np.eye(4, dtype=int), 5)],
        [boundary_targets(np.eye(4, dtype=int)[None], 3)],
    ],
)
def test_targets_made_differently_are_not_stacked(targets):
    with pytest.raises(ValueError, match='have the same'):
        stack_targets(targets)
