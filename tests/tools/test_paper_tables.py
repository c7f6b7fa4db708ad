"""The tool on a work dir that a real training left, resumed and tested."""

import importlib
import json
import time

import pytest
from mmengine.config import Config

EPOCHS = """
train_dataloader['sampler'] = dict(type='DefaultSampler', shuffle=False)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
param_scheduler = []
log_processor = dict(by_epoch=True)
default_hooks['checkpoint'] = dict(type='CheckpointHook', by_epoch=True, interval=1)
"""


@pytest.fixture
def work_dirs(tools):
    return importlib.import_module('mmseg_cpg.experiments.work_dirs')


def next_second():
    """Wait until MMEngine names a session by another time than the last one."""
    time.sleep(1 - time.time() % 1)


def logged(work_dir):
    """Metrics of all validations, by time."""
    rows = [json.loads(line) for log in sorted(work_dir.glob('*/vis_data/scalars.json')) for line in log.open()]
    return [row for row in rows if 'mIoU' in row]


def test_reads_what_training_resuming_and_testing_leave(write_config, run_tool, work_dirs, tmp_path):
    work_dir = tmp_path / 'work'
    run_tool('train', write_config(tmp_path, EPOCHS))
    (run,) = work_dirs.read_runs(work_dir)
    assert (run.state, run.num_gpus, run.result.progress) == (work_dirs.FINISHED, 1, 2)
    assert run.result.miou == logged(work_dir)[-1]['mIoU']
    assert run.result.class_iou.keys() == {'a', 'b', 'c'}
    assert sum(run.result.class_iou.values()) / 3 == pytest.approx(run.result.miou, abs=0.0101)

    next_second()
    longer = EPOCHS.replace('max_epochs=2', 'max_epochs=3')
    run_tool('train', write_config(tmp_path, longer), '--resume')
    (resumed,) = work_dirs.read_runs(work_dir)
    assert (resumed.started, resumed.result.progress) == (run.started, 3)
    assert len(logged(work_dir)) == 3
    assert resumed.result.miou == logged(work_dir)[-1]['mIoU']

    next_second()
    tested_dir = tmp_path / 'tested'
    run_tool('test', write_config(tmp_path, longer), work_dir / 'epoch_3.pth', '--work-dir', tested_dir)
    (tested,) = work_dirs.read_runs(tested_dir)
    assert tested.result == resumed.result
    assert tested.num_gpus is None


@pytest.mark.parametrize('by_epoch', [True, False])
def test_reads_trainings_by_iteration(write_config, run_tool, work_dirs, tmp_path, by_epoch):
    run_tool('train', write_config(tmp_path, f"default_hooks['logger']['log_metric_by_epoch'] = {by_epoch}\n"))
    (run,) = work_dirs.read_runs(tmp_path / 'work')
    assert (run.state, run.result.progress) == (work_dirs.FINISHED, 3)


@pytest.fixture
def session(tmp_path):
    """A finished training run of a stock config, written by hand, and its mIoU."""
    (tmp_path / 'stock.py').write_text(
        "_base_ = 'mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512.py'\nrandomness = dict(seed=0)\n"
    )
    folder = tmp_path / 'work_dirs' / 'stock' / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    Config.fromfile(tmp_path / 'stock.py').dump(folder / 'config.py')
    (folder / 'scalars.json').write_text('{"mIoU": 41.5, "step": 80000}\n')
    return folder.parent


def test_prints_and_writes_the_tables(session, run_tool, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs' / 'started' / session.name).mkdir(parents=True)
    run_tool('analysis/paper_tables', 'work_dirs', session.parent)
    printed, warned = capsys.readouterr()
    assert warned.startswith(f"No results in '{tmp_path}/work_dirs/started'")
    out = tmp_path / 'work_dirs' / 'paper_tables'
    assert {path.name for path in out.iterdir()} == {
        'paper_tables.md',
        'runs.csv',
        *(f'table_{number}.csv' for number in (1, 2, 3, 4)),
    }
    markdown = (out / 'paper_tables.md').read_text()
    assert printed.startswith(markdown)
    assert [line for line in markdown.splitlines() if line.startswith('#')] == [
        '## Table 1: class IoU, %, DeepLabv3-R50 on Cityscapes',
        '## Table 2: mIoU, %, over λ, DeepLabv3-R50 on Cityscapes',
        '## Table 3: mIoU, %, by network and data',
        '## Table 4: with RMI loss, DeepLabv3-R50 on Cityscapes',
        '## The runs',
    ]
    row = 'ADE20K,DeepLabv3-R50,40.18,41.50,1,41.25,not stated,not run,0,not run,0,not run,0\n'
    assert row in (out / 'table_3.csv').read_text()
    assert markdown.count('41.50*') == 1  # given twice, counted once
    assert '80000 iters (recipe: 175 epochs)' in (out / 'runs.csv').read_text()
    assert (out / 'runs.csv').read_text().splitlines()[1].startswith('work_dirs/stock,20260101_000000,')


@pytest.mark.parametrize('name', ['none', '.'])
def test_a_folder_without_work_dirs_is_one_line(fails_with, tmp_path, name):
    assert 'No work dir in' in fails_with('analysis/paper_tables', tmp_path / name)
