import pytest

from mmseg_cpg.ops import sobel_numerators
from tests.oracles import cpg_loss as oracle


@pytest.mark.parametrize(('ksize', 'denominator'), [(3, 2), (5, 20), (7, 780), (9, 132600), (11, 157661400)])
def test_numerators_over_denominator_are_the_paper_kernel(ksize, denominator):
    rows, actual = sobel_numerators(ksize)
    assert actual == denominator
    expected, _ = oracle.kernels(ksize)
    radius = ksize // 2
    for (v, u), element in expected.items():
        assert rows[v + radius][u + radius] == element * denominator


def test_ksize_3_is_half_of_sobel():
    assert sobel_numerators(3) == (((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), 2)


@pytest.mark.parametrize('ksize', [3, 5, 7, 9, 11])
def test_gradients_of_a_label_fit_int32(ksize):
    positive = sum(element for row in sobel_numerators(ksize)[0] for element in row if element > 0)
    assert positive < 2**31


@pytest.mark.parametrize('ksize', [0, 1, 2, 4, 13, -3])
def test_impossible_size(ksize):
    with pytest.raises(ValueError, match=rf'ksize must be odd and in \[3, 11\], got {ksize}'):
        sobel_numerators(ksize)


@pytest.mark.parametrize('ksize', [3.0, '3', None, True])
def test_ksize_must_be_an_int(ksize):
    with pytest.raises(TypeError, match='ksize must be an int, got'):
        sobel_numerators(ksize)
