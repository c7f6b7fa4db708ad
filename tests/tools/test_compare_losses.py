"""A comparison with real training runs in this process, one of which fails at first, and with handwritten results."""

import contextlib
import csv
import io
import json
import math
import os
import shutil
import signal
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from uuid import uuid4

import cv2
import pytest
import torch
from mmengine.config import Config, config
from mmseg.models.losses import DiceLoss
from mmseg.registry import MODELS
from yapf.yapflib import yapf_api

from mmseg_cpg.experiments import trainings
from mmseg_cpg.experiments.records import Record

COMPARE = ['compare_losses', 'tiny.py', '--work-dir', 'compare']


class FakeProcess(contextlib.AbstractContextManager):
    """What a training run's process is to its launcher."""

    def __init__(self, wait, stderr=()):
        self.wait = wait
        self.stderr = stderr

    def __exit__(self, *_):
        pass

    def terminate(self):
        pass


def read_csv(name):
    """The rows of a table of the comparison in the current folder."""
    with Path('compare', name).open() as file:
        return list(csv.DictReader(file))


def results():
    """State and mIoU of each training by losses and seed."""
    return {
        (row['losses'], int(row['seed'])): (row['state'], row['mIoU, %']) for row in read_csv('compare_trainings.csv')
    }


def logged(folder):
    """What each session of a training logged, by time."""
    logs = sorted(Path('compare', folder).glob('*/vis_data/scalars.json'))
    return [[json.loads(line) for line in log.open()] for log in logs]


@pytest.fixture
def here(write_config, tmp_path, monkeypatch):
    """A config in the current folder, tiny.py."""
    monkeypatch.chdir(tmp_path)
    # Formatting configs takes longer than training with them. Where MMEngine looks for this depends on its version.
    for module in (config, yapf_api):
        monkeypatch.setattr(module, 'FormatCode', lambda text, **options: (text, True), raising=False)
    write_config(tmp_path)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch, run_tool):
    """Train without processes of their own, which take long to start; the folders that were trained in."""
    folders = []

    def run(command, **options):
        time.sleep(1 - time.time() % 1)  # MMEngine names sessions by the second
        name = uuid4().hex  # and keeps what it has built under a name
        folders.append(Path(command[-1]).name)
        stderr, status = io.StringIO(), 0
        try:
            run_tool('train', *command[2:], '--cfg-options', f'experiment_name={name}', f'visualizer.name={name}')
        except SystemExit as error:
            stderr, status = io.StringIO(str(error)), 1
        except Exception:
            stderr, status = io.StringIO(traceback.format_exc()), 1
        return FakeProcess(lambda: status, stderr)

    # Trainings run in threads here, which cannot handle signals.
    monkeypatch.setattr(signal, 'signal', lambda number, handler: None)
    # In that module alone: MMEngine starts processes as well.
    monkeypatch.setattr(trainings, 'subprocess', SimpleNamespace(Popen=run, PIPE=None, DEVNULL=None))
    return folders


@pytest.fixture
def failing():
    """A loss that fails in its second iteration with seed 1, until it is told not to."""
    plan = dict(fails=True)

    class Failing(DiceLoss):
        def forward(self, *args, **kwargs):
            self.calls = getattr(self, 'calls', 0) + 1
            if plan['fails'] and self.calls == 2 and torch.initial_seed() == 1:
                raise FloatingPointError('a number too many')
            return super().forward(*args, **kwargs)

    MODELS.register_module(module=Failing, name='FailingLoss')
    yield plan
    MODELS.module_dict.pop('FailingLoss')


def test_compares_trainings_and_resumes_where_one_failed(here, in_this_process, failing, run_tool, fails_with, capsys):
    arguments = [*COMPARE, '--losses', 'base+FailingLoss:0.5', '--seeds', 0, 1, '--csv', 'all.csv']
    message = fails_with(*arguments)
    reason = 'CE + FailingLoss:0.5, seed 1, failed: FloatingPointError: a number too many'
    assert message.startswith(f'Error: 1 of 4 training runs have no result ({reason})')
    names = ['base', 'base+FailingLoss=0.5']
    assert in_this_process == [f'{name}_seed_{seed}' for seed in (0, 1) for name in names]
    assert [losses for losses, (state, _) in results().items() if state != 'finished'] == [('CE + FailingLoss:0.5', 1)]
    assert 'failed: FloatingPointError: a number too many' in Path('compare/compare.md').read_text()
    assert [row['seeds'] for row in read_csv('compare.csv')] == ['2', '1']

    failing['fails'] = False
    in_this_process.clear()
    run_tool(*arguments)
    assert in_this_process == ['base+FailingLoss=0.5_seed_1']
    sessions = logged(in_this_process[0])
    assert [[row['step'] for row in session if 'loss' in row] for session in sessions] == [[1], [2, 3]]
    printed = capsys.readouterr().out
    assert 'CE, seed 0 (1 of 4): finished.' in printed
    assert 'CE (baseline)' in printed

    # The tables are made of what the training runs logged last.
    base, other = read_csv('compare.csv')
    assert (base['seeds'], other['seeds']) == ('2', '2')
    for key, column in (('mIoU', 'mIoU, %'), ('mBIoU', 'Boundary IoU, %'), ('mF_3px', 'F-score 3 px, %')):
        theirs, ours = ([logged(f'{name}_seed_{seed}')[-1][-1][key] for seed in (0, 1)] for name in names)
        assert float(base[column]) == pytest.approx(sum(theirs) / 2, abs=1e-4)
        assert float(other[column]) == pytest.approx(sum(ours) / 2, abs=1e-4)
        assert float(other[f'{column}: difference']) == pytest.approx((sum(ours) - sum(theirs)) / 2, abs=1e-4)
    assert float(other['step, ms']) > 0
    assert float(base['memory, MiB']) > 100
    assert cv2.imread('compare/compare.png').std() > 5

    rows = Record('all.csv').rows()
    assert [(row['losses'], row['seed'], row['iterations']) for row in rows] == [
        ('base', '0', '3'), ('base+FailingLoss:0.5', '0', '3'), ('base', '1', '3'), ('base+FailingLoss:0.5', '1', '3'),
    ]  # fmt: skip
    for row in rows:
        for score, mean in (('IoU', 'mIoU'), ('BIoU', 'mBIoU'), ('F 3px', 'mF_3px')):
            values = [float(row[f'{score}: {name}']) for name in 'abc']
            assert sum(values) / 3 == pytest.approx(float(row[mean]), abs=0.0101)
        assert json.loads(row['validations']) == [[3, float(row['mIoU']), float(row['mBIoU'])]]
        assert float(row['step_ms']) > 0


def test_the_losses_reach_the_training(here, in_this_process, run_tool):
    run_tool(*COMPARE, '--losses', 'base+CPGLoss:0.25,ksize=5', '--seeds', 3)
    cfg = Config.fromfile('compare/base+CPGLoss=0.25,ksize=5_seed_3/tiny.py')
    assert cfg.randomness.seed == 3
    own = dict(type='CrossEntropyLoss', avg_non_ignore=True)
    assert cfg.model.decode_head.loss_decode == [own, dict(type='CPGLoss', loss_weight=0.25, ksize=5)]
    assert Config.fromfile('compare/base_seed_3/tiny.py').model.decode_head.loss_decode in (own, [own])
    note = "CE stands for the losses of the config: [{'type': 'CrossEntropyLoss', 'avg_non_ignore': True}]."
    markdown = Path('compare/compare.md').read_text()
    assert note in markdown
    assert 'A confidence interval needs at least two seeds' in markdown
    ((_, base), (_, cpg)) = results().values()
    assert f' {float(base):.2f} ' in markdown
    assert f' {float(cpg) - float(base):+.2f} ' in markdown


@pytest.fixture
def launched(here, monkeypatch):
    """Trainings written by hand: the commands, and what they log instead of the usual by folder."""
    commands, changes = [], {}

    def run(command, **options):
        tool = Path(command[1]).name
        commands.append([tool, *command[2:]])
        folder = Path(command[-1])
        if tool == 'test.py':
            write_test(folder, command[3])
            return FakeProcess(lambda: 0)
        losses = Config.fromfile(folder / 'tiny.py').model.decode_head.loss_decode
        names = ['decode.loss_ce', *(['decode.loss_cpg'] if isinstance(losses, list) and len(losses) > 1 else [])]
        vis_data = folder / '20260101_000000' / 'vis_data'
        vis_data.mkdir(parents=True)
        (vis_data / 'config.py').write_text((folder / 'tiny.py').read_text())
        row = dict.fromkeys(names, 0.5) | dict(loss=1.0, iter=3, step=3, time=1.0, data_time=0.5)
        val = dict(mIoU=50.0 + len(names), mBIoU=40.0, mF_3px=30.0, step=0)
        rows = changes.get(folder.name, lambda *rows: rows)(row, val)
        (vis_data / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
        return FakeProcess(lambda: 0)

    monkeypatch.setattr(trainings, 'subprocess', SimpleNamespace(Popen=run, PIPE=None, DEVNULL=None))
    return commands, changes


def write_test(folder, checkpoint):
    """Write what a test leaves that found an mIoU of 55."""
    session = folder / '20260101_000009'
    (session / 'vis_data').mkdir(parents=True)
    cfg = Config.fromfile(folder / 'tiny.py')
    cfg.load_from = checkpoint
    cfg.dump(session / 'vis_data' / 'config.py')
    (session / f'{session.name}.json').write_text(json.dumps(dict(mIoU=55.0)))


def folders(commands):
    return [Path(command[-1]).name for command in commands]


def test_losses_and_seeds_may_join(launched, run_tool):
    commands, _ = launched
    run_tool(*COMPARE, '--losses', 'base+CPGLoss:1', '--seeds', 0)
    assert folders(commands) == ['base_seed_0', 'base+CPGLoss=1_seed_0']
    commands.clear()
    losses = ['CPGLoss:1.00+base', 'base', 'base+CPGLoss:1.0', 'base + CPGLoss:1']
    run_tool(*COMPARE, '--losses', *losses, '--seeds', 0, 4, 0, '--cfg-options', 'train_dataloader.num_workers=1')
    joined = ['CPGLoss=1+base_seed_0', 'base_seed_4', 'CPGLoss=1+base_seed_4', 'base+CPGLoss=1_seed_4']
    assert folders(commands) == joined
    assert len(read_csv('compare_trainings.csv')) == 6
    assert [row['losses'] for row in read_csv('compare.csv')] == ['CE', 'CPGLoss:1 + CE', 'CE + CPGLoss:1']


def test_names_that_differ_have_folders_that_differ(launched, tools):
    import importlib

    folder_name = importlib.import_module('compare_losses').folder_name
    names = ['base+X:1', 'base+X_1', 'base+X,a=1', 'base+X,a=b:1', 'base+X,a=b=1', 'X:1+base', 'X+base']
    assert len({folder_name(name, 0) for name in names}) == len(names)


def test_trainings_run_side_by_side(here, monkeypatch, run_tool):
    running, most, places = set(), [], []
    both = Barrier(2, timeout=60)

    def run(command, env, **options):
        folder = Path(command[-1])
        places.append(env['OMP_NUM_THREADS'])

        def wait():
            running.add(folder)
            both.wait()
            most.append(len(running))
            both.wait()
            running.remove(folder)
            vis_data = folder / '20260101_000000' / 'vis_data'
            vis_data.mkdir(parents=True)
            (vis_data / 'config.py').write_text((folder / 'tiny.py').read_text())
            rows = [dict(loss=1.0, iter=3, step=3), dict(mIoU=50.0, step=0)]
            (vis_data / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
            return 0

        return FakeProcess(wait)

    monkeypatch.setattr(trainings, 'subprocess', SimpleNamespace(Popen=run, PIPE=None, DEVNULL=None))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: range(8))
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0, 1, 2, 3, '--jobs', 2)
    assert most == [2] * 4
    assert places == ['4'] * 4
    assert len(read_csv('compare_trainings.csv')) == 4


def test_jobs_share_the_gpus(launched, run_tool, fails_with, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5,7')
    message = fails_with(*COMPARE, '--losses', 'base', '--seeds', 0, '--jobs', 2, '--gpus', 2)
    assert '--jobs 2 with 2 GPUs each need 4 GPUs, but there are 3' in message
    assert [place['CUDA_VISIBLE_DEVICES'] for place in trainings._places(3, 1)] == ['4', '5', '7']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3')
    places = trainings._places(2, 2)
    assert [place['CUDA_VISIBLE_DEVICES'] for place in places] == ['0,1', '2,3']
    assert len({place['PORT'] for place in places}) == 2


def test_the_record_needs_no_work_dirs(launched, run_tool):
    commands, _ = launched
    arguments = [*COMPARE, '--losses', 'base+CPGLoss:0.5', '--seeds', 0, '--csv', 'record/all.csv']
    run_tool(*arguments)
    assert len(commands) == 2
    markdown = Path('compare/compare.md').read_text()
    shutil.rmtree('compare')
    commands.clear()
    run_tool(*arguments, '--work-dir', 'elsewhere')
    assert commands == []
    assert Path('elsewhere/compare.md').read_text() == markdown
    run_tool(*arguments[:-2], '--seeds', 0, 1, '--work-dir', 'elsewhere', '--csv', 'record/all.csv')
    assert folders(commands) == ['base_seed_1', 'base+CPGLoss=0.5_seed_1']
    base, cpg, *_ = Record('record/all.csv').rows()
    assert (base['config'], base['losses'], base['seed'], base['mIoU']) == ('tiny', 'base', '0', '51')
    assert (cpg['losses'], cpg['title'], cpg['mIoU']) == ('base+CPGLoss:0.5', 'CE + CPGLoss:0.5', '52')
    assert cpg['torch'] == version('torch')
    assert len(os.listdir('record')) == 2  # and the lock


def test_a_record_is_for_one_config_of_a_name(launched, run_tool, fails_with):
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0, '--csv', 'all.csv')
    other = [*COMPARE[:-1], 'elsewhere', '--losses', 'base', '--seeds', 0, '--csv', 'all.csv']
    message = fails_with(*other, '--cfg-options', 'optim_wrapper.optimizer.lr=0.02')
    assert "'all.csv' contains runs of another 'tiny'" in message


def test_a_diverged_training_is_in_no_mean(launched, run_tool):
    commands, changes = launched
    changes['base+CPGLoss=1_seed_0'] = lambda row, val: (row | dict(loss=math.nan), val)
    arguments = [*COMPARE, '--losses', 'base+CPGLoss:1', '--seeds', 0, 1, '--csv', 'all.csv']
    run_tool(*arguments)
    assert [row['seeds'] for row in read_csv('compare.csv')] == ['2', '1']
    assert results()['CE + CPGLoss:1', 0] == ('diverged: loss nan at iteration 3', '')
    row = Record('all.csv').find('tiny', 'base+CPGLoss:1', 0)
    assert row['state'] == 'diverged: loss nan at iteration 3'
    assert row['mIoU'] == ''
    commands.clear()
    run_tool(*arguments)
    assert commands == []


def test_a_record_of_the_work_dir_that_cannot_be_read(launched, run_tool, fails_with):
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0)
    record = Path('compare/comparison.json')
    record.write_text(record.read_text()[:100])
    assert "'compare/comparison.json' is damaged" in fails_with(*COMPARE, '--losses', 'base', '--seeds', 0)


@pytest.mark.parametrize('option', ['--work-dir', '--csv'])
def test_a_folder_that_cannot_be_written_is_one_line(launched, fails_with, option):
    Path('file').write_text('precious')
    arguments = ['compare_losses', 'tiny.py', '--losses', 'base', '--seeds', 0, '--work-dir', 'compare']
    path = 'file/all.csv' if option == '--csv' else 'file'
    message = fails_with(*arguments, option, path)
    assert message == f"Error: 'file' is a file, not a folder. Choose another {option}."
    below = fails_with(*arguments, option, path.replace('file', 'file/below'))
    assert below == f"Error: Cannot write to 'file/below' (Not a directory). Choose another {option}."
    assert launched[0] == []
    assert Path('file').read_text() == 'precious'


@pytest.mark.parametrize('name', ['comparison.json', 'compare.md', 'all.csv', 'tiny.py'])
def test_a_full_disk_is_one_line_and_costs_no_training(launched, run_tool, fails_with, monkeypatch, name):
    commands, _ = launched
    arguments = [*COMPARE, '--losses', 'base', '--seeds', 0, '--csv', 'all.csv']
    write_text = Path.write_text

    def full(self, text, *options, **more):
        if name in self.name:
            raise OSError(28, 'No space left on device')
        return write_text(self, text, *options, **more)

    def full_config(self, file=None):
        if name in str(file):
            raise OSError(28, 'No space left on device')
        return dump(self, file)

    dump = Config.dump
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_text', full)
        patch.setattr(Config, 'dump', full_config)
        message = fails_with(*arguments)
    assert message == "Error: No space left on device: 'compare'. Run the same command again to continue."
    run_tool(*arguments)
    assert len(commands) == 1  # trained once
    assert Record('all.csv').find('tiny', 'base', 0)['state'] == 'finished'


def test_several_gpus_train_together(launched, run_tool):
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0, '--gpus', 2)
    folder = 'compare/base_seed_0'
    assert launched[0] == [['dist_train.sh', f'{folder}/tiny.py', '2', '--progress', '--resume', '--work-dir', folder]]


@pytest.mark.parametrize('name', ['iter_3.pth', '', 'iter_2.pth'])
def test_a_training_that_ended_in_its_last_validation_is_tested(launched, run_tool, name):
    """From its newest checkpoint, even if a kill left last_checkpoint empty or with the name of one that is gone."""
    commands, changes = launched
    folder = Path('compare/base_seed_0')

    def without_validation(row, val):
        hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
        progress = dict(meta=dict(iter=3, epoch=0), message_hub=hub)
        torch.save(dict(state_dict={}, optimizer={}, **progress), folder / 'iter_3.pth')
        (folder / 'last_checkpoint').write_text(name and str(folder / name))
        return (row,)

    changes['base_seed_0'] = without_validation
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0)
    assert commands[1] == ['test.py', str(folder / 'tiny.py'), str(folder / 'iter_3.pth'), '--work-dir', str(folder)]
    assert results() == {('CE', 0): ('finished', '55.00')}


def test_the_default_folder_is_next_to_that_of_training(launched, run_tool):
    run_tool('compare_losses', 'tiny.py', '--losses', 'base', '--seeds', 0, '--cfg-options', 'work_dir=None')
    assert Path('work_dirs/tiny_compare/compare.md').exists()
    assert not Path('work_dirs/tiny_compare/compare.png').exists()


def test_a_loss_that_the_head_leaves_alone_is_no_result(launched, fails_with):
    # As in heads that pick their losses by position, DDRHead's and PIDHead's.
    _, changes = launched
    changes['base+CPGLoss_seed_0'] = lambda row, val: ({key: row[key] for key in row.keys() - {'decode.loss_cpg'}}, val)
    message = fails_with(*COMPARE, '--losses', 'base+CPGLoss', '--seeds', 0)
    assert 'CE + CPGLoss, seed 0, failed: the head does not use loss_cpg, which is not in the log' in message
    assert [row['seeds'] for row in read_csv('compare.csv')] == ['1', '0']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--cfg-options', 'optim_wrapper.optimizer.lr=0.02'], 'optim_wrapper.optimizer.lr: 0.01, 0.02'),
        (['--cfg-options', 'model.decode_head.loss_decode.avg_non_ignore=False'], 'avg_non_ignore: True, False'),
        (['--gpus', 2], 'gpus: 1, 2'),
    ],
)
def test_a_work_dir_is_for_one_config(launched, run_tool, fails_with, options, message):
    commands, _ = launched
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0)
    found = fails_with(*COMPARE, '--losses', 'base+CPGLoss', '--seeds', 0, *options)
    assert "'compare' contains a comparison of another config or with other options (then, now: " in found
    assert message in found
    assert folders(commands) == ['base_seed_0']


def test_the_seed_of_the_config_does_not_count(launched, run_tool):
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0)
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 1, '--cfg-options', 'randomness.seed=7')
    assert folders(launched[0]) == ['base_seed_0', 'base_seed_1']


def test_trainings_of_unknown_origin_are_left_alone(launched, fails_with):
    Path('compare/base_seed_0').mkdir(parents=True)
    assert 'no comparison.json' in fails_with(*COMPARE, '--losses', 'base', '--seeds', 0)
    assert launched[0] == []


def test_an_interruption_is_one_line(launched, fails_with):
    def interrupt(row, val):
        raise KeyboardInterrupt

    launched[1]['base_seed_0'] = interrupt
    assert fails_with(*COMPARE, '--losses', 'base+CPGLoss', '--seeds', 0).startswith('Error: Stopped.')
    assert folders(launched[0]) == ['base_seed_0']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--losses', 'base+CPGLos'], 'Did you mean CPGLoss?'),
        (['--losses', 'base+CPGLoss:1,ksize=4'], 'ksize must be odd and in [3, 11], got 4'),
        (['--losses', 'base+CPGLoss:'], "invalid weight ''"),
        (['--losses', 'base', '--gpus', 0], 'must be at least 1, but got 0'),
        (['--losses', 'base', '--cfg-options', 'val_dataloader=None'], 'does not set val_dataloader'),
        (['--losses', 'base', '--cfg-options', 'model.decode_head.loss_decode=None'], 'FCNHead, sets no loss_decode'),
        (['--losses', 'base', '--cfg-options', 'train_dataloader.dataset.data_root=none'], "'none'"),
    ],
)
def test_a_mistake_is_one_line(launched, fails_with, options, message):
    assert message in fails_with(*COMPARE, '--seeds', 0, *options)
    assert launched[0] == []
    assert not Path('compare').exists()


@pytest.mark.parametrize('seed', ['-1', '4294967296', '1.5', 'one'])
def test_a_seed_is_a_number(here, run_tool, seed, capsys):
    with pytest.raises(SystemExit) as leaving:
        run_tool(*COMPARE, '--losses', 'base', f'--seeds={seed}')
    assert leaving.value.code == 2
    assert seed in capsys.readouterr().err


EVALUATORS = [
    ("dict(type='IoUMetric', ignore_index=7)", 7, ['mIoU', 'mBIoU', 'mF_3px']),
    ("[dict(type='IoUMetric'), dict(type='BoundaryMetric', width_px=5)]", None, ['mIoU', 'mBIoU', 'mF_3px']),
    (
        "[dict(type='IoUMetric'), dict(type='mmseg_cpg.BoundaryMetric', tolerances_px=(2, 4), prefix='b')]",
        None,
        ['mIoU', 'b/mBIoU', 'b/mF_2px'],
    ),
    ("[dict(type='IoUMetric'), dict(type='mmseg_cpg.BoundaryMetric', tolerances_px=[])]", None, ['mIoU', 'mBIoU']),
]


@pytest.mark.parametrize(('evaluator', 'ignore_index', 'keys'), EVALUATORS)
def test_validation_measures_boundaries(write_config, launched, run_tool, tmp_path, evaluator, ignore_index, keys):
    write_config(tmp_path, f"val_evaluator = {evaluator}\ntest_dataloader = dict(dataset=dict(type='None'))\n")
    launched[1]['base_seed_0'] = lambda row, val: (row, dict.fromkeys(keys, 12.5) | dict(step=0))
    run_tool(*COMPARE, '--losses', 'base', '--seeds', 0)
    cfg = Config.fromfile('compare/base_seed_0/tiny.py')
    if ignore_index is not None:
        added = dict(type='mmseg_cpg.BoundaryMetric', ignore_index=ignore_index, trimap_widths_px=())
        assert cfg.val_evaluator[1] == added
    assert len(cfg.val_evaluator) == 2
    # The tool for tests, which takes the place of an interrupted validation, finds the same.
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_evaluator == cfg.val_evaluator
    width = '5 px' if 'width_px=5' in evaluator else '2 % of the diagonal'
    assert f'Boundary IoU uses bands {width} wide' in Path('compare/compare.md').read_text()
    (row,) = read_csv('compare.csv')
    assert [row[key] for key in row if key.endswith(', %')] == ['12.5000'] * len(keys)


def test_folders_have_names_that_shells_like(here, tools):
    import importlib

    name = importlib.import_module('compare_losses').folder_name
    assert name('base+mmseg_cpg.CPGLoss:1.5,ksize=3', 0) == 'base+mmseg_cpg.CPGLoss=1.5,ksize=3_seed_0'
    odd = [name(f"A,path={path},text='x y'", 0) for path in ('a/b', 'a_b', 'a b')]
    assert len(set(odd)) == 3
    assert all(set(each) <= set('abcdefghijklmnopqrstuvwxyzA0123456789_,=-') for each in odd)
    long = [name(f'A,x={"y" * 200}{end}', 12) for end in 'ab']
    assert long[0] != long[1]
    assert max(map(len, long)) < 100
