"""Class weights may come from a file of plain values, which is read without running code."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from mmseg_cpg import CPGLoss, CrossEntropyCPGLoss

WEIGHTS = [0.5, 2.0**-20, 2.0]
WRITERS = {
    'weight.npy': lambda path, weights: np.save(path, weights),
    'weight.json': lambda path, weights: path.write_text(json.dumps(weights)),
    'weight.yaml': lambda path, weights: path.write_text(yaml.safe_dump(weights)),
    'weight.yml': lambda path, weights: path.write_text(yaml.safe_dump(weights)),
}


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def fused(class_weight):
    """The cross-entropy in the fused loss, which MMSegmentation's class is behind."""
    cross_entropy = dict(type='CrossEntropyLoss', class_weight=class_weight)
    return CrossEntropyCPGLoss(cross_entropy, dict(type='CPGLoss'))[0]


@pytest.fixture(params=[CPGLoss, fused])
def make_loss(request):
    return request.param


@pytest.mark.parametrize('name', WRITERS)
def test_a_file_of_plain_values_is_read(tmp_path, make_loss, name):
    WRITERS[name](tmp_path / name, WEIGHTS)
    assert make_loss(class_weight=str(tmp_path / name)).class_weight.tolist() == WEIGHTS


@pytest.mark.parametrize('name', ['weight.pkl', 'weight.pickle', 'weight.npy', 'weight.json', 'weight'])
def test_a_pickle_is_refused_and_not_run(tmp_path, make_loss, name):
    trap = tmp_path / 'trap'
    (tmp_path / name).write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(ValueError):
        make_loss(class_weight=str(tmp_path / name))
    assert not trap.exists()


@pytest.mark.parametrize('name', WRITERS)
def test_an_empty_file_is_refused(tmp_path, make_loss, name):
    (tmp_path / name).touch()
    message = 'must be a list of finite numbers' if name.endswith(('.yaml', '.yml')) else 'cannot be read'
    with pytest.raises(ValueError, match=message):
        make_loss(class_weight=str(tmp_path / name))


def test_an_array_of_objects_is_refused_and_not_run(tmp_path, make_loss):
    np.save(tmp_path / 'weight.npy', np.array([Trap(tmp_path / 'trap')], object), allow_pickle=True)
    with pytest.raises(ValueError, match='pickle'):
        make_loss(class_weight=str(tmp_path / 'weight.npy'))
    assert not (tmp_path / 'trap').exists()


def test_yaml_that_builds_objects_is_refused_and_not_run(tmp_path, make_loss):
    (tmp_path / 'weight.yaml').write_text(f'!!python/object/apply:os.mkdir ["{tmp_path}/trap"]')
    with pytest.raises(ValueError, match=r"weight\.yaml'.*cannot be read"):
        make_loss(class_weight=str(tmp_path / 'weight.yaml'))
    assert not (tmp_path / 'trap').exists()
