import numpy as np
import pytest
import torch

from mmseg_cpg.structures import binary_ids, names_by_id, void_in_place_of_class


def test_a_single_class_has_id_1():
    assert list(names_by_id(('crack',))) == ['background', 'crack']
    assert names_by_id(('road', 'pole')) == ('road', 'pole')


@pytest.mark.parametrize('make', [np.array, torch.tensor])
def test_ids_of_a_label(make):
    assert binary_ids(make([[0, 255], [0, 255]]), 255) == {0, 255}
    assert binary_ids(make([[0, 1], [7, 7]]), 255) == {0, 1}
    assert binary_ids(make([[0, 1], [7, 7]]), 7) == {0, 1, 7}


@pytest.mark.parametrize(('ids', 'num_classes', 'ignore_index'), [({0, 255}, 2, 255), ({7, 0}, 1, 7), ([0, -1], 2, -1)])
def test_void_in_place_of_the_class_is_explained(ids, num_classes, ignore_index):
    message = void_in_place_of_class(ids, num_classes, ignore_index)
    assert message.startswith(f'{ignore_index} is void here, and no label contains class 1')
    assert 'reduce_zero_label' in message


def test_which_labels_were_looked_at_is_said():
    message = void_in_place_of_class({0, 255}, 2, 255, 'this label does not contain')
    assert message.startswith('255 is void here, and this label does not contain class 1, only 0 and 255.')


@pytest.mark.parametrize(
    ('ids', 'num_classes', 'ignore_index'),
    [
        ({0, 1, 255}, 2, 255),
        ({0, 1}, 2, 255),
        ({0}, 2, 255),
        ({255}, 2, 255),
        (set(), 2, 255),
        ({0, 255}, 3, 255),
        ({0, 1}, 2, 1),
        ({0}, 2, 0),
    ],
)
def test_other_labels_are_not(ids, num_classes, ignore_index):
    assert void_in_place_of_class(ids, num_classes, ignore_index) is None
