import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_cpg.visualization import Line, Prediction, choose_line
from tests.oracles import cpg_loss as oracle


def sample_of(logits, label):
    return SegDataSample(seg_logits=PixelData(data=logits), pred_sem_seg=PixelData(data=label))


def test_probabilities_of_a_sample_are_the_softmax():
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    prediction = Prediction.from_sample('a', sample_of(logits, logits.argmax(0, keepdim=True)))
    np.testing.assert_allclose(prediction.probability, oracle.probability(logits[None], False)[0], atol=1e-6)
    np.testing.assert_array_equal(prediction.label, logits.argmax(0))


def test_a_binary_model_has_two_classes():
    # MMSegmentation leaves the sigmoid in seg_logits there.
    probability = torch.tensor([[[0.1, 0.7]]])
    prediction = Prediction.from_sample('a', sample_of(probability, (probability > 0.5).int()))
    np.testing.assert_allclose(prediction.probability, [[[0.9, 0.3]], [[0.1, 0.7]]])
    assert prediction.label.tolist() == [[0, 1]]


@pytest.mark.parametrize('ignore_policy', ['exclude', 'as_background'])
@pytest.mark.parametrize('ksize', [3, 5])
def test_label_gradient_is_the_oracles(scene, ksize, ignore_policy):
    scene = scene._replace(ignore_policy=ignore_policy)
    expected = np.zeros((2, *scene.label.shape))
    entries = oracle.boundary(scene.label[None], ksize, 3, ignore_policy=ignore_policy)
    for (_, class_index, direction, row, column), gradient in entries.items():
        if class_index == 1:
            expected[direction, row, column] = gradient
    np.testing.assert_allclose(scene.label_gradient(1, ksize), np.hypot(*expected), rtol=1e-6)
    assert scene.label_gradient(0, ksize)[20, 2:4].any() == (ignore_policy == 'as_background')


def test_a_perfect_predictions_gradient_is_the_labels(label, scene):
    perfect = np.stack([label == class_index for class_index in range(3)]).astype(np.float32)
    gradient = Prediction('a', label, perfect).gradient(1, 3)
    np.testing.assert_allclose(gradient, scene.label_gradient(1, 3), atol=1e-6)
    assert gradient[20, 29] == 2  # 1/2 + 1 + 1/2


def test_without_a_label_the_first_prediction_takes_its_place(scene):
    scene = scene._replace(label=None)
    assert scene.reference is scene.predictions[0].label
    assert scene.boundary(3).mask()[10, 28]


def test_main_class(scene):
    assert scene.main_class() == 0
    ids = np.full_like(scene.label, 2)
    ids[0] = 255
    assert scene._replace(label=ids).main_class() == 2
    assert scene._replace(label=np.full_like(ids, 255)).main_class() == 0


@pytest.mark.parametrize(
    ('line', 'expected'),
    [(Line(True, 1, 2, 4), [12, 13]), (Line(False, 1, 0, 2), [1, 11])],
)
def test_a_line_takes_its_pixels(line, expected):
    array = 10 * np.arange(3)[:, None] + np.arange(6)
    assert line.take(array).tolist() == expected
    assert line.take(np.stack([array, -array])).tolist() == [expected, [-value for value in expected]]
    assert str(line) == ('row 1' if line.is_row else 'column 1')


@pytest.mark.parametrize(
    ('line', 'rows', 'columns'),
    [
        (Line(True, 150, 100, 164), (102, 198), (84, 180)),
        (Line(False, 150, 100, 164), (84, 180), (102, 198)),
        (Line(True, 0, 0, 64), (0, 96), (0, 96)),
        (Line(True, 199, 336, 400), (104, 200), (304, 400)),
        (Line(True, 150, 0, 400), (0, 400), (0, 400)),
    ],
)
def test_the_close_up_is_a_square_around_the_line(line, rows, columns):
    assert line.close_up((200, 400)) == (slice(*rows), slice(*columns))


@pytest.mark.parametrize('is_row', [True, False])
def test_the_line_crosses_two_objects_and_has_them_in_its_middle(is_row):
    mask = np.zeros((100, 200), bool)
    mask[60:70, 110:120] = mask[60:70, 130:140] = True  # the only rows with four edges
    mask[20:40, 50] = mask[20:40, 52] = True  # edges too close to each other
    line = choose_line(mask if is_row else mask.T)
    assert line == Line(is_row, 60, 93, 157)


def test_an_image_without_edges_or_smaller_than_the_line_gives_one_too():
    assert choose_line(np.ones((5, 9), bool)) == Line(True, 2, 0, 9)
    assert choose_line(np.ones((1, 1), bool)) == Line(True, 0, 0, 1)
