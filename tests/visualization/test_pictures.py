"""What the pictures show, read from the figures' own data, and that rendering keeps the colors."""

import io

import numpy as np
import pytest

from mmseg_cpg.evaluation.boundary import BoundarySettings, boundary_scores, count_boundaries
from mmseg_cpg.visualization import (
    Line,
    draw_boundaries,
    draw_changes,
    draw_comparison,
    draw_errors,
    draw_gradients,
    draw_overview,
    draw_profile,
    render,
)
from mmseg_cpg.visualization.painting import BOUNDARY_COLOR, RIGHT_COLOR, VOID_COLOR, WRONG_COLOR
from mmseg_cpg.visualization.pictures import BOTH_WRONG_COLOR
from tests.visualization.conftest import CLASSES, PALETTE

ROW = Line(True, 10, 10, 60)


def pictures(figure):
    """The arrays shown, by row of panels, and the titles of the first row."""
    axes = [axis for axis in figure.axes if axis.images and axis.get_label() != '<colorbar>']
    return [axis.images[0].get_array() for axis in axes], [axis.get_title() for axis in axes]


def legend(figure):
    (legend,) = figure.legends
    return {patch.get_label(): patch for patch in legend.legend_handles}


def color_of(patch):
    return tuple(round(255 * part) for part in patch.get_facecolor()[:3])


def matches(picture, color):
    return (np.asarray(picture) == color).all(-1)


def test_boundaries_are_those_of_the_loss(scene):
    figure = draw_boundaries(scene, [3, 7], ROW)
    (image, label, small, large, *close_ups), titles = pictures(figure)
    np.testing.assert_array_equal(image, scene.image)
    np.testing.assert_array_equal(label[20, 32], PALETTE[1])
    for ksize, picture, title in ((3, small, titles[2]), (7, large, titles[3])):
        mask = scene.boundary(ksize).mask().numpy()
        np.testing.assert_array_equal(matches(picture, BOUNDARY_COLOR), mask)
        assert title == f'ksize {ksize}: {100 * mask.mean():.1f} % of pixels'
    np.testing.assert_array_equal(close_ups[2], small[ROW.close_up(scene.label.shape)])
    assert {name: color_of(patch) for name, patch in legend(figure).items()} == {
        **dict(zip(CLASSES, PALETTE, strict=True)),
        'void': VOID_COLOR,
        'boundary': BOUNDARY_COLOR,
    }


def test_errors_in_the_band(scene):
    (_, _, first, second, *_), titles = pictures(draw_errors(scene, ROW))
    assert np.argwhere(matches(first, WRONG_COLOR)).tolist() == [[10, 29], [11, 29]]
    assert np.argwhere(matches(second, WRONG_COLOR)).tolist() == [[11, 29]]  # (0, 50) is not near a boundary
    band = matches(first, RIGHT_COLOR) | matches(first, WRONG_COLOR)
    assert band[20].nonzero()[0].tolist() == [3, 4, 5, *range(27, 39)]  # next to void, and around the pole
    assert titles[2:4] == [
        f'CE\n{200 / band.sum():.1f} % of the band wrong',
        f'CE + CPG\n{100 / band.sum():.1f} % of the band wrong',
    ]
    settings = BoundarySettings(trimap_widths_px=[3])
    right = boundary_scores([count_boundaries(scene.predictions[0].label, scene.label, 3, settings)], settings)
    assert titles[2] == f'CE\n{100 - right["trimap_aAcc"][3]:.1f} % of the band wrong'


def test_gradients_have_one_scale(scene):
    figure = draw_gradients(scene, 1, 3, ROW)
    (image, true, first, second, close_up, true_gradient, *gradients), titles = pictures(figure)
    part = ROW.close_up(scene.label.shape)
    np.testing.assert_array_equal(image, scene.image)
    np.testing.assert_array_equal(close_up, scene.image[part])
    np.testing.assert_array_equal(true, (scene.label == 1)[part])
    np.testing.assert_array_equal(true_gradient, scene.label_gradient(1, 3)[part])
    for prediction, probability, gradient in zip(scene.predictions, (first, second), gradients, strict=True):
        np.testing.assert_array_equal(probability, prediction.probability[1][part])
        np.testing.assert_array_equal(gradient, prediction.gradient(1, 3)[part])
    assert titles[:4] == ['image', 'label', 'CE', 'CE + CPG']
    limits = [axis.images[0].get_clim() for axis in figure.axes[5:8]]
    assert limits == [(0, true_gradient.max())] * 3
    assert [axis.get_ylabel() for axis in figure.axes[-2:]] == ['probability', 'magnitude of the gradient']


def test_void_is_not_the_class_whose_id_it_has(scene):
    """Losses and metrics take pixels with ignore_index as void, whatever the classes."""
    scene = scene._replace(label=np.where(scene.label == 255, 0, scene.label), ignore_index=0)
    (_, true, *_), _ = pictures(draw_gradients(scene, 0, 3, ROW))
    assert not true.any()
    assert np.isnan(draw_profile(scene, 0, Line(True, 10, 0, 20)).axes[1].lines[0].get_ydata()).all()


@pytest.mark.parametrize('line', [ROW, Line(False, 32, 5, 45)])
def test_profile_is_the_probability_along_the_line(scene, line):
    figure = draw_profile(scene, 1, line)
    plot = figure.axes[1]
    true, *curves = plot.lines
    np.testing.assert_array_equal(true.get_ydata(), line.take(scene.label) == 1)
    for prediction, curve in zip(scene.predictions, curves, strict=True):
        np.testing.assert_array_equal(curve.get_xdata(), np.arange(line.start, line.stop))
        np.testing.assert_array_equal(curve.get_ydata(), line.take(prediction.probability[1]))
    strips = [image.get_array()[0] for image in plot.images]
    for strip, ids in zip(strips, (scene.label, *(each.label for each in scene.predictions)), strict=True):
        np.testing.assert_array_equal(strip, np.array(PALETTE)[line.take(ids)])
    assert plot.get_xlabel() == ('column, px' if line.is_row else 'row, px')
    assert figure.get_suptitle() == f"Probability of 'pole' along {line}"


def test_the_mean_step_counts_the_labels_edges_only(scene):
    probability = scene.predictions[0].probability[1, 10]
    expected = ((probability[30] - probability[29]) + (probability[35] - probability[36])) / 2
    text = draw_profile(scene, 1, Line(True, 10, 0, 60)).axes[1].get_legend_handles_labels()[1][1]
    assert text == f'CE\nmean step at edges {expected:.2f}'


def test_the_label_has_a_gap_at_void(scene):
    true = draw_profile(scene, 0, Line(True, 10, 0, 20)).axes[1].lines[0].get_ydata()
    assert np.isnan(true).tolist() == [True] * 3 + [False] * 17
    assert (true[3:] == 1).all()


def test_comparison_tells_who_is_right(scene):
    figure = draw_comparison(scene)
    (*_, difference), titles = pictures(figure)
    for color, pixel in ((WRONG_COLOR, [0, 50]), (RIGHT_COLOR, [10, 29]), (BOTH_WRONG_COLOR, [11, 29])):
        assert np.argwhere(matches(difference, color)).tolist() == [pixel]
    right = 100 * (1 - 2 / (scene.label != 255).sum())
    assert titles[2:4] == [f'CE\n{right:.1f} % of pixels right', f'CE + CPG\n{right:.1f} % of pixels right']
    assert {'only CE right', 'only CE + CPG right', 'both wrong'} < legend(figure).keys()


def test_changes_are_corrected_and_added_errors_without_the_image(scene):
    scene = scene._replace(image=np.full_like(scene.image, 77))
    figure = draw_changes(scene, Line(True, 30, 0, 60))  # a close-up of all
    (first, second, own, changes), titles = pictures(figure)
    for picture, prediction in zip((first, second), scene.predictions, strict=True):
        np.testing.assert_array_equal(picture, np.array(PALETTE)[prediction.label])
    assert np.argwhere(matches(own, BOTH_WRONG_COLOR)).tolist() == [[10, 29], [11, 29]]
    for color, pixel in ((WRONG_COLOR, [0, 50]), (RIGHT_COLOR, [10, 29]), (BOTH_WRONG_COLOR, [11, 29])):
        assert np.argwhere(matches(changes, color)).tolist() == [pixel]
        assert color in map(color_of, legend(figure).values())
    assert {'wrong', 'wrong, CE right', 'right, CE wrong'} < legend(figure).keys()
    assert [title.partition('\n')[0] for title in titles[:2]] == ['CE', 'CE + CPG']


def test_without_a_label(scene):
    scene = scene._replace(label=None)
    (_, *shown), titles = pictures(draw_comparison(scene))
    assert titles == ['image', 'CE', 'CE + CPG', 'CE or CE + CPG:\nwhere they differ']
    assert np.argwhere(matches(shown[-1], BOUNDARY_COLOR)).tolist() == [[0, 50], [10, 29]]
    assert pictures(draw_gradients(scene, 1, 3))[1][:3] == ['image', 'CE', 'CE + CPG']
    assert len(draw_profile(scene, 1).axes[1].lines) == 2
    assert 'prediction of CE' in draw_boundaries(scene, [3]).get_suptitle()


@pytest.mark.parametrize('value', [0, 255])
def test_labels_without_boundary(scene, value):
    scene = scene._replace(label=np.full_like(scene.label, value))
    _, titles = pictures(draw_errors(scene))
    assert titles[2] == 'CE\nno boundary'
    for figure in (draw_boundaries(scene, [3]), draw_gradients(scene, 0, 3), draw_profile(scene, 0)):
        assert render(figure).std() > 0


def test_render_keeps_the_colors(scene):
    picture = render(draw_errors(scene, ROW))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    for color in (RIGHT_COLOR, WRONG_COLOR, *PALETTE, VOID_COLOR):
        assert matches(picture, color).sum() > 30


@pytest.mark.parametrize('ignore_index', [-1, 0, 1, 1000])
def test_any_ignore_index(scene, ignore_index):
    """A class's id may be void's: then no label has the class, and what is predicted as it stays in its color."""
    label = np.where(scene.label == ignore_index, 2, scene.label)
    expected = scene._replace(label=label)
    other = scene._replace(label=np.where(label == 255, ignore_index, label), ignore_index=ignore_index)
    for draw in (draw_comparison, draw_errors, lambda scene: draw_boundaries(scene, [3]), lambda s: draw_profile(s, 2)):
        np.testing.assert_array_equal(render(draw(other)), render(draw(expected)))


def test_dollar_signs_are_text(scene):
    scene = scene._replace(
        classes=('$x_1$', '$', r'$\frac$'), predictions=[scene.predictions[0]._replace(name='$\\x$')]
    )
    for draw in (
        draw_comparison,
        draw_errors,
        lambda scene: draw_boundaries(scene, [3]),
        lambda scene: draw_gradients(scene, 2, 3),
        lambda scene: draw_profile(scene, 2),
        lambda scene: draw_overview([scene], '$$x$', ['$y^$']),
    ):
        figure = draw(scene)
        render(figure)
        figure.savefig(io.BytesIO())
