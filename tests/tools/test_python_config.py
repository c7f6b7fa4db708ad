"""Every tool works with a config in MMEngine's pure Python style, which names classes by themselves."""

import csv
import json
import sys
from pathlib import Path

import cv2
import mmengine.device
import pytest
import torch

KNOWS_ITS_SUFFIX = """
from mmseg.datasets import CityscapesDataset
train_dataloader['dataset'].pop('img_suffix')
train_dataloader['dataset']['type'] = CityscapesDataset
"""
CPG = """
from mmseg_cpg import BoundaryMetric, CPGLoss
model['decode_head']['loss_decode'] = [dict(type=CrossEntropyLoss), dict(type=CPGLoss)]
test_pipeline = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations), dict(type=PackSegInputs)]
"""
BASED = """
from mmengine.config import read_base

with read_base():
    from .base import *

from mmseg_cpg import BoundaryVisualizationHook
train_cfg.update(max_iters=2, val_interval=2)
custom_hooks = [dict(type=BoundaryVisualizationHook, interval=1)]
"""
TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def config(write_python_config, tmp_path):
    """A config of its own for each run, since MMEngine keeps what it has built under a name."""
    return write_python_config(tmp_path, CPG)


@pytest.fixture(scope='module')
def trained(write_python_config, tmp_path_factory):
    """A config and its work dir; the first test that needs it trains there."""
    folder = tmp_path_factory.mktemp('pure')
    return write_python_config(folder, CPG), folder / 'work'


@pytest.fixture
def checkpoint(trained, run_tool):
    config, work_dir = trained
    if not (work_dir / 'iter_3.pth').exists():
        run_tool('train', config)
    return work_dir / 'iter_3.pth'


def losses_of(work_dir):
    rows = [json.loads(line) for log in work_dir.glob('*/vis_data/scalars.json') for line in log.open()]
    return [row['step'] for row in rows if 'loss' in row]


def test_train_and_resume(config, checkpoint, run_tool, tmp_path):
    run_tool('train', config, '--work-dir', tmp_path, '--resume', checkpoint.with_name('iter_1.pth'))
    assert losses_of(tmp_path) == [2, 3]


def test_train_with_boundaries_made_while_loading(config, checkpoint, run_tool, tmp_path):
    run_tool('train', config, '--work-dir', tmp_path, '--precompute-boundaries')
    expected, weights = (torch.load(path)['state_dict'] for path in (checkpoint, tmp_path / 'iter_3.pth'))
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


def test_train_with_fused_losses(config, checkpoint, run_tool, tmp_path):
    run_tool('train', config, '--work-dir', tmp_path, '--fuse-losses')
    expected, weights = (torch.load(path)['state_dict'] for path in (checkpoint, tmp_path / 'iter_3.pth'))
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight)


def test_train_with_progress_and_a_scaled_learning_rate(write_python_config, in_process, tmp_path):
    config = write_python_config(tmp_path, 'auto_scale_lr = dict(base_batch_size=4)\n')
    command = [sys.executable, TOOLS / 'train.py', config, '--progress', '--auto-scale-lr']
    done = in_process(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'training 3/3' in done.stdout
    assert 'Scaling the original LR by 0.5.' in (tmp_path / 'work' / 'train.log').read_text()


def test_based_on_another(write_python_config, run_tool, tmp_path):
    write_python_config(tmp_path, name='base.py')
    config = tmp_path / 'derived.py'
    config.write_text(BASED)
    run_tool('train', config, '--work-dir', tmp_path / 'derived')
    assert losses_of(tmp_path / 'derived') == [1, 2]
    assert len(list((tmp_path / 'derived').rglob('*_profile_*.png'))) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason='shows only that AmpOptimWrapper, which needs a GPU, is built')
def test_amp(config, fails_with, write_python_config, tmp_path, monkeypatch):
    wrapper = "from mmengine.optim import {0}\noptim_wrapper['type'] = {0}\n"
    own = write_python_config(tmp_path, wrapper.format('AmpOptimWrapper'), 'own.py')
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cpu')
    assert 'needs a GPU' in fails_with('train', config, '--work-dir', tmp_path, '--amp')
    assert 'needs a GPU' in fails_with('train', own, '--work-dir', tmp_path)
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cuda')
    for each in (config, own):
        assert 'AmpOptimizerWrapper' in fails_with('train', each, '--work-dir', tmp_path, '--amp')
    other = write_python_config(tmp_path, wrapper.format('ApexOptimWrapper'), 'other.py')
    assert "has 'ApexOptimWrapper'" in fails_with('train', other, '--work-dir', tmp_path, '--amp')


@pytest.mark.parametrize('options', [[], ['--tta']], ids=['plain', 'tta'])
def test_test_saves_predictions(config, checkpoint, run_tool, tmp_path, options):
    folders = ['--work-dir', tmp_path / 'work', '--out', tmp_path / 'out']
    run_tool('test', config, checkpoint, *folders, *options)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['0.png', '1.png', '2.png']


def test_test_paints(config, checkpoint, run_tool, tmp_path):
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'work', '--show-dir', tmp_path / 'show')
    assert len(list((tmp_path / 'show').rglob('*.png'))) == 3


def test_check_dataset(config, run_tool, capsys):
    run_tool('misc/check_dataset', config)
    assert '4 labels' in capsys.readouterr().out


def test_a_class_that_knows_its_suffix(write_python_config, fails_with, tmp_path):
    config = write_python_config(tmp_path, KNOWS_ITS_SUFFIX)
    line = fails_with('train', config)
    assert "No '*_leftImg8bit.png' images in " in line
    assert '(train_dataloader, CityscapesDataset)' in line
    assert '1 error in the data' in fails_with('misc/check_dataset', config)


def test_visualize(config, checkpoint, run_tool, data_root, tmp_path):
    image, label = (data_root / folder / 'val' / '1.png' for folder in ('img_dir', 'ann_dir'))
    run_tool(
        'analysis/visualize', image, '--label', label, '--config', config, '--checkpoint', checkpoint,
        '--device', 'cpu', '--out', tmp_path,
    )  # fmt: skip
    assert cv2.imread(str(tmp_path / 'errors.png')) is not None


def test_logs_and_tables(config, trained, checkpoint, run_tool, tmp_path, capsys):
    _, work_dir = trained
    run_tool('analysis/analyze_logs', work_dir, '--out', tmp_path / 'curves.png')
    assert cv2.imread(str(tmp_path / 'curves.png')) is not None
    run_tool('analysis/paper_tables', work_dir.parent)
    assert 'pure' in capsys.readouterr().out


def test_demo_report(write_python_config, run_tool, tmp_path):
    folders = [tmp_path / 'first', tmp_path / 'second']
    for folder in folders:
        run_tool('train', write_python_config(tmp_path), '--work-dir', folder)
    run_tool('analysis/demo_report', *folders, '--out', tmp_path / 'page')
    assert (tmp_path / 'page' / 'index.html').is_file()


def test_compare_losses(write_python_config, run_tool, tmp_path):
    config = write_python_config(tmp_path)
    options = ['--losses', 'base+CPGLoss', '--seeds', '0', '--work-dir', tmp_path / 'compare']
    run_tool('compare_losses', config, *options, '--cfg-options', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1')
    with (tmp_path / 'compare' / 'compare_trainings.csv').open() as file:
        rows = [(row['losses'], row['state'].split(',')[0]) for row in csv.DictReader(file)]
    assert rows == [('CE', 'finished'), ('CE + CPGLoss', 'finished')]


def test_train_edge_network(write_python_config, run_tool, tmp_path):
    options = ['model.channels=(4,4)', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    run_tool(
        'train_edge_network', write_python_config(tmp_path), '--work-dir', tmp_path / 'edge', '--cfg-options', *options
    )
    assert (tmp_path / 'edge' / 'edge_network.pth').exists()
