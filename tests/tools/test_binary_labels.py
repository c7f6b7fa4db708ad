"""Masks with the values 0 and 255, where 255 is void: each tool that reads labels says so."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
MESSAGE = 'class 1, only 0 and 255.'
# The head has two channels or one, and the dataset names two classes or one.
HEADS = {
    'two channels': """
model['decode_head'].update(num_classes=2)
binary = dict(classes=('background', 'crack'), palette=[[0, 0, 0], [255, 0, 0]])
""",
    'one channel': """
model['decode_head'].update(
    num_classes=2, out_channels=1, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
binary = dict(classes=('crack',), palette=[[255, 0, 0]])
""",
}
EXTRA = """
test_pipeline = [*load, dict(type='PackSegInputs')]
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(data_root={root!r}, metainfo=binary)
"""


@pytest.fixture(scope='module', params=[255, 1], ids=['void', 'class'])
def mask(request, data_root, tmp_path_factory):
    """Value of a square in the labels, and the root of a dataset with such labels."""
    root = tmp_path_factory.mktemp(f'masks{request.param}')
    for path in data_root.rglob('*.png'):
        copy = root / path.relative_to(data_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        image = cv2.imread(str(path))
        if 'ann_dir' in path.parts:
            image = np.zeros((32, 32), np.uint8)
            image[8:20, 8:20] = request.param
        cv2.imwrite(str(copy), image)
    return request.param, root


@pytest.fixture(params=HEADS)
def config(request, mask, write_config, tmp_path):
    return write_config(tmp_path, HEADS[request.param] + EXTRA.format(root=str(mask[1])))


def check(text, mask, number=1):
    assert text.count(MESSAGE) == (number if mask[0] == 255 else 0)


def log_of(work_dir):
    (path,) = work_dir.glob('*/*.log')
    return path.read_text()


def test_train(config, mask, run_tool, tmp_path):
    run_tool('train', config)
    check(log_of(tmp_path / 'work'), mask)


def test_progress_shows_the_warning_on_the_console(config, mask, in_process, tmp_path):
    done = in_process(sys.executable, TOOLS / 'train.py', config, '--progress', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(done.stderr, mask)
    assert len(done.stderr.splitlines()) == (1 if mask[0] == 255 else 0)


def test_training_without_validation(config, mask, run_tool, tmp_path):
    without = [f'val_{part}=None' for part in ('dataloader', 'cfg', 'evaluator')]
    options = ['train_cfg.max_iters=101', 'default_hooks.checkpoint.save_best=None', *without]
    run_tool('train', config, '--cfg-options', *options)
    check(log_of(tmp_path / 'work'), mask)


def test_training_with_few_labels_of_the_class(mask, write_config, run_tool, tmp_path):
    if mask[0] == 1:
        pytest.skip('all labels contain the class')
    config = write_config(tmp_path, HEADS['two channels'] + EXTRA.format(root=str(mask[1])))
    path = mask[1] / 'ann_dir' / 'val' / '2.png'
    before = path.read_bytes()
    cv2.imwrite(str(path), np.eye(32, dtype=np.uint8))
    run_tool('train', config)
    path.write_bytes(before)
    assert MESSAGE not in log_of(tmp_path / 'work')


@pytest.fixture
def checkpoint(config, tmp_path):
    """The weights of an untrained model."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(config)
    meta = dict(dataset_meta=dict(cfg.binary))
    torch.save(dict(meta=meta, state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'untrained.pth')
    return tmp_path / 'untrained.pth'


@pytest.mark.parametrize('metric', ['IoUMetric', 'mmseg_cpg.BoundaryMetric'])
def test_test(config, mask, checkpoint, metric, run_tool, tmp_path):
    path = tmp_path / 'tested.py'
    path.write_text(f"_base_ = '{config}'\ntest_evaluator = dict(_delete_=True, type='{metric}')\n")
    run_tool('test', path, checkpoint, '--work-dir', tmp_path / 'tested')
    check(log_of(tmp_path / 'tested'), mask)


def test_visualize(config, mask, checkpoint, run_tool, capsys, tmp_path):
    _, root = mask
    label = root / 'ann_dir' / 'val' / '0.png'
    image = root / 'img_dir' / 'val' / '0.png'
    options = ['--config', config, '--checkpoint', checkpoint, '--label', label, '--out', tmp_path / 'out']
    run_tool('analysis/visualize', image, *options)
    check(capsys.readouterr().err, mask)


def test_check_dataset(config, mask, run_tool, capsys):
    run_tool('misc/check_dataset', config)
    output = capsys.readouterr().out
    check(output, mask, 2)  # for training and validation; the test has the same files
    assert ('No problems found.' in output) == (mask[0] == 1)


@pytest.mark.parametrize('num_classes', ['1', '2', '3'])
def test_boundary_eval(mask, run_tool, capsys, num_classes):
    labels = mask[1] / 'ann_dir'
    if (mask[0], num_classes) == (1, '1'):
        pytest.skip('1 is no class')
    run_tool('analysis/boundary_eval', labels, labels, '--num-classes', num_classes)
    check(capsys.readouterr().err, mask, int(num_classes != '3'))
