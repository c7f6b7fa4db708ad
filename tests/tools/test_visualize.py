"""The tool's pictures are those of the scene that its arguments describe."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS

from mmseg_cpg import visualization

PICTURES = ['boundaries', 'errors', 'gradients', 'profile', 'comparison', 'changes']
CPG = """
model['decode_head']['loss_decode'] = [dict(type='CrossEntropyLoss'), dict(type='mmseg_cpg.CPGLoss')]
test_pipeline = val_dataloader['dataset']['pipeline']
"""
CE = "test_pipeline = val_dataloader['dataset']['pipeline']\n"
VISUALIZE = 'analysis/visualize'


@pytest.fixture(scope='module')
def models(write_config, tmp_path_factory):
    """Configs and checkpoints of two untrained models, and the arguments that name them."""
    folder = tmp_path_factory.mktemp('models')
    pairs = []
    for seed, (name, extra) in enumerate((('ce', CE), ('cpg', CPG))):
        config = write_config(folder, extra, f'{name}.py')
        cfg = Config.fromfile(config)
        init_default_scope('mmseg')
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        meta = dict(dataset_meta=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]]))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / f'{name}.pth')
        pairs.append((config, str(folder / f'{name}.pth')))
    one = ['--config', pairs[0][0], '--checkpoint', pairs[0][1], '--device', 'cpu']
    return SimpleNamespace(pairs=pairs, one=one, both=[*one, '--versus', *pairs[1]])


@pytest.fixture
def image(data_root):
    return str(data_root / 'img_dir' / 'val' / '1.png')


@pytest.fixture
def label(data_root):
    return str(data_root / 'ann_dir' / 'val' / '1.png')


@pytest.fixture
def scenes(monkeypatch):
    """The scene, class and line of each call of the pictures."""
    calls = []
    for name in ('draw_profile', 'draw_gradients'):
        draw = getattr(visualization, name)

        def spy(scene, class_index, *rest, draw=draw):
            calls.append((scene, class_index, rest[-1]))
            return draw(scene, class_index, *rest)

        monkeypatch.setattr(visualization, name, spy)
    return calls


def test_two_models_side_by_side(models, image, label, run_tool, scenes, tmp_path, capsys):
    run_tool(VISUALIZE, image, *models.both, '--label', label, '--out', tmp_path)
    paths = [str(tmp_path / f'{name}.png') for name in PICTURES]
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith('.png')] == paths
    assert all(cv2.imread(path).shape[0] > 300 for path in paths)
    scene, class_index, line = scenes[0]
    assert [prediction.name for prediction in scene.predictions] == ['CE', 'CE + CPG']
    np.testing.assert_array_equal(scene.label, cv2.imread(label, cv2.IMREAD_UNCHANGED))
    np.testing.assert_array_equal(scene.image, cv2.imread(image)[..., ::-1])
    assert class_index == scene.main_class()
    assert scenes[1][1:] == (class_index, line)
    for (config, checkpoint), prediction in zip(models.pairs, scene.predictions, strict=True):
        logits = inference_model(init_model(config, checkpoint, 'cpu'), image).seg_logits.data
        np.testing.assert_allclose(prediction.probability, logits.softmax(0), rtol=1e-5)
        np.testing.assert_array_equal(prediction.label, logits.argmax(0))


def test_one_model_without_a_label_and_a_line_of_ones_own(models, image, run_tool, scenes, tmp_path):
    run_tool(VISUALIZE, image, *models.one, '--class', 'c', '--column', 7, '--span', 3, 20, '--out', tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {*PICTURES} - {'errors', 'changes'}
    scene, class_index, line = scenes[0]
    assert (scene.label, class_index, line) == (None, 2, (False, 7, 3, 21))


def test_the_label_is_read_as_the_dataset_reads_it(models, image, label, run_tool, scenes, write_config, tmp_path):
    load = (
        "test_pipeline = [load[0], dict(type='LoadAnnotations', reduce_zero_label=True), dict(type='PackSegInputs')]\n"
    )
    extra = f"{load}test_dataloader['dataset'].update(reduce_zero_label=True, pipeline=test_pipeline)\n"
    config = write_config(tmp_path, extra)
    run_tool(
        VISUALIZE, image, '--config', config, '--checkpoint', models.pairs[0][1], '--label', label, '--out', tmp_path
    )
    expected = cv2.imread(label, cv2.IMREAD_UNCHANGED).astype(int) - 1
    expected[(expected == -1) | (expected == 254)] = 255
    np.testing.assert_array_equal(scenes[0][0].label, expected)


@pytest.mark.parametrize('ignore_index', [7, 2])
def test_ignore_index_is_that_of_the_head(models, image, run_tool, scenes, write_config, tmp_path, ignore_index):
    label = np.zeros((32, 32), np.uint8)
    label[10:20, 10:20] = 1
    label[:3] = ignore_index
    cv2.imwrite(str(tmp_path / 'label.png'), label)
    config = write_config(tmp_path, f"{CE}model['decode_head'].update(ignore_index={ignore_index})\n")
    arguments = ['--config', config, '--checkpoint', models.pairs[0][1], '--label', tmp_path / 'label.png']
    run_tool(VISUALIZE, image, *arguments, '--out', tmp_path)
    assert ((scenes[0][0].reference == -1) == (label == ignore_index)).all()


def test_models_of_the_same_losses_are_named_by_their_configs(models, image, run_tool, scenes, tmp_path):
    run_tool(VISUALIZE, image, *models.one, '--versus', *models.pairs[0], '--out', tmp_path)
    assert [prediction.name for prediction in scenes[0][0].predictions] == ['ce', 'ce']
    run_tool(VISUALIZE, image, *models.both, '--names', 'x', 'y', '--out', tmp_path)
    assert [prediction.name for prediction in scenes[-1][0].predictions] == ['x', 'y']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--class', 'd'], "--class 'd' is not one of the model's classes: a, b, c."),
        (['--row', '32'], '--row must be in [0, 31], got 32.'),
        (['--row', '3', '--span', '5', '32'], '--span must be FIRST < LAST in [0, 31], got 5 32.'),
        (['--span', '5', '7'], '--span needs --row or --column.'),
        (['--ksize', '4'], '--ksize: ksize must be odd and in [3, 11], got 4.'),
        (['--names', 'a', 'b'], '--names needs one name for each of the 1 models, but got 2.'),
        (['--label', 'none.png'], "Label 'none.png' not found."),
    ],
)
def test_mistakes_are_named(models, image, fails_with, arguments, message):
    assert message in fails_with(VISUALIZE, image, *models.one, *arguments)


def test_wrong_files_are_named(models, image, label, fails_with, tmp_path):
    assert "Image 'none.png' not found." in fails_with(VISUALIZE, 'none.png', *models.one)
    missing = ['--config', models.pairs[0][0], '--checkpoint', 'none.pth']
    assert "Checkpoint 'none.pth' not found." in fails_with(VISUALIZE, image, *missing)
    wrong = cv2.imread(label, cv2.IMREAD_UNCHANGED)
    wrong[3, 4] = 7
    cv2.imwrite(str(tmp_path / 'wrong.png'), wrong)
    assert 'has the value 7, but the model has 3 classes' in fails_with(
        VISUALIZE, image, *models.one, '--label', tmp_path / 'wrong.png'
    )
    (tmp_path / 'corrupt.png').write_bytes(b'no image')
    assert f"Label '{tmp_path / 'corrupt.png'}' cannot be read (" in fails_with(
        VISUALIZE, image, *models.one, '--label', tmp_path / 'corrupt.png'
    )
    cv2.imwrite(str(tmp_path / 'small.png'), wrong[:10])
    assert 'has shape (10, 32), but the image has shape (32, 32)' in fails_with(
        VISUALIZE, image, *models.one, '--label', tmp_path / 'small.png'
    )
