"""A sweep with a real training, which crashes at first, and with made-up ones."""

import contextlib
import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'cpg'
LOSSES = """
model['decode_head']['loss_decode'] = [
    dict(type='CrossEntropyLoss', avg_non_ignore=True), dict(type='CPGLoss', ksize=5)]
"""
CRASHES = f"""{LOSSES}
custom_imports = dict(imports=['crash_hook'])
custom_hooks = [dict(type='CrashHook')]
"""
# Ends the process hard in the second iteration with weight 0.5, unless a file says that it must not.
CRASH_HOOK = """
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class CrashHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        weight = runner.model.decode_head.loss_decode[1].loss_weight
        if weight == 0.5 and runner.iter == 1 and not os.path.exists('mended'):
            os._exit(9)
"""
# Makes a training hang before it builds anything.
HANG = """
import os, sys, time
if sys.argv[0].endswith('train.py'):
    open(f'{os.getpid()}.pid', 'w').close()
    time.sleep(600)
"""
SWEEP = ['tiny.py', '--work-dir', 'sweep', '--values', '1']


def read_csv(work_dir):
    """The rows of a sweep's table by weight."""
    with (work_dir / 'sweep.csv').open() as file:
        return {row['λ']: row for row in csv.DictReader(file)}


def steps(work_dir):
    """The iterations that each session of a training logged, by time."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    rows = [[json.loads(line) for line in log.open()] for log in logs]
    return [[row['step'] for row in session if 'loss' in row] for session in rows]


def weights_of(path):
    """The weights of all CPG losses in the model of a config."""
    from mmseg_cpg.config_nodes import cpg_losses

    model = Config.fromfile(path, import_custom_modules=False).model
    return [loss.loss_weight for loss, _ in cpg_losses(model)]


def test_goes_on_where_it_stopped(write_config, run_tool, fails_with, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in dict(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='').items():
        monkeypatch.setenv(name, value)
    write_config(tmp_path, CRASHES)
    (tmp_path / 'crash_hook.py').write_text(CRASH_HOOK)
    arguments = ['sweep', 'tiny.py', '--work-dir', 'sweep', '--values', '0.5']
    assert fails_with(*arguments).startswith('Error: 1 of 1 trainings failed (λ = 0.5)')
    work_dir = tmp_path / 'sweep'
    assert read_csv(work_dir)['0.5']['state'] == 'not evaluated yet'
    assert not (work_dir / 'sweep.png').exists()

    (tmp_path / 'mended').touch()
    run_tool(*arguments)
    folder = work_dir / 'lambda_0.5'
    assert steps(folder) == [[1], [2, 3]]
    first, last = sorted(folder.glob('*/vis_data'))
    assert weights_of(first / 'config.py') == weights_of(last / 'config.py') == [0.5]
    row = read_csv(work_dir)['0.5']
    validation = json.loads((last / 'scalars.json').read_text().splitlines()[-1])
    assert (row['state'], row['best']) == ('finished', 'best')
    assert float(row['mIoU, %']) == pytest.approx(validation['mIoU'], abs=0.01)
    assert cv2.imread(str(work_dir / 'sweep.png')).std() > 5

    capsys.readouterr()
    run_tool(*arguments)
    assert 'λ = 0.5 (1 of 1) has ended in sweep/lambda_0.5.' in capsys.readouterr().out
    assert steps(folder) == [[1], [2, 3]]


@pytest.fixture
def launched(monkeypatch):
    """The commands that a sweep runs, and what happens then by weight.

    Unless the latter says otherwise, a training is written by hand that ended with an mIoU of 50 plus the weight.
    """
    commands, outcomes = [], {}

    def run(command, env, **options):
        commands.append([Path(command[1]).name, *command[2:]])
        assert env['PATH'].split(os.pathsep)[0] == str(Path(sys.executable).parent)
        folder = Path(command[command.index('--work-dir') + 1])
        weight = float(folder.name.removeprefix('lambda_'))
        rows = [dict(loss=1.0, iter=3, step=3), dict(mIoU=50 + weight, step=0)]
        status = outcomes.get(weight, write_session)(command, folder, rows)
        return contextlib.nullcontext(SimpleNamespace(stderr=[], wait=lambda: status))

    monkeypatch.setattr(subprocess, 'Popen', run)
    return commands, outcomes


def write_session(command, folder, rows):
    """Write what a training leaves that ends well."""
    vis_data = folder / '20260101_000000' / 'vis_data'
    vis_data.mkdir(parents=True)
    (vis_data / 'config.py').write_text(Path(command[2]).read_text())
    (vis_data / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return 0


@pytest.fixture
def config(write_config, tmp_path, monkeypatch):
    """The arguments that sweep over a config in the current folder, whose CPG loss has ksize 5."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, LOSSES)
    return ['sweep', 'tiny.py', '--work-dir', 'sweep']


def folders(commands):
    """The folders that commands trained in, by order."""
    return [Path(command[command.index('--work-dir') + 1]).name for command in commands]


def test_the_weights_are_table_2s_by_default(launched, config, run_tool, tmp_path, capsys):
    run_tool(*config)
    weights = ['0', '2', '4', '6', '8', '10', '12', '14', '16', '18']
    assert folders(launched[0]) == [f'lambda_{weight}' for weight in weights]
    printed = capsys.readouterr().out
    assert f'λ = {", ".join(weights)} as in Table 2.' in printed
    assert 'for k = 5 is 8, which corresponds to 2 here' in printed
    table = read_csv(tmp_path / 'sweep')
    assert list(table) == weights
    assert table['18'] == {'λ': '18', 'mIoU, %': '68.00', 'state': 'finished', 'best': 'best'}
    assert '|  18 |  68.00  | finished | best |' in (tmp_path / 'sweep' / 'sweep.md').read_text()


def test_the_default_folder_is_beside_that_of_training(launched, config, run_tool, tmp_path):
    run_tool('sweep', 'tiny.py', '--values', 1, '--cfg-options', 'work_dir=None')
    assert (tmp_path / 'work_dirs' / 'tiny_sweep' / 'sweep.md').exists()


def test_every_cpg_loss_gets_the_weight(launched, write_config, run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extra = (
        "cpg = [dict(type='CrossEntropyLoss'), dict(type='mmseg_cpg.CPGLoss', ksize=7, loss_weight=9.0)]\n"
        "model['decode_head'] = [model['decode_head'], dict(model['decode_head'], loss_decode=cpg)]\n"
        "model['auxiliary_head'] = dict(model['decode_head'][0], loss_decode=dict(type='CPGLoss'))\n"
    )
    write_config(tmp_path, extra)
    run_tool('sweep', 'tiny.py', '--work-dir', 'sweep', '--values', 0.25)
    assert weights_of(tmp_path / 'sweep' / 'lambda_0.25' / 'tiny.py') == [0.25, 0.25]


def test_a_crash_leaves_the_others_and_is_resumed(launched, config, run_tool, fails_with, tmp_path):
    commands, outcomes = launched

    def crashes(command, folder, rows):
        (folder / 'last_checkpoint').write_text('iter_1.pth')
        return 9

    outcomes[1.0] = crashes
    message = fails_with(*config, '--values', 2, 1, 0)
    assert message.startswith('Error: 1 of 3 trainings failed (λ = 1)')
    assert [row['state'] for row in read_csv(tmp_path / 'sweep').values()] == ['finished', 'not run', 'finished']
    outcomes.clear()
    commands.clear()
    run_tool(*config, '--values', 2, 1, 0)
    options = ['--progress', '--resume', '--work-dir', 'sweep/lambda_1']
    assert commands == [['train.py', 'sweep/lambda_1/tiny.py', *options]]
    assert {row['state'] for row in read_csv(tmp_path / 'sweep').values()} == {'finished'}


def test_a_training_that_ended_in_its_last_validation_is_tested(launched, config, run_tool, tmp_path):
    commands, outcomes = launched
    checkpoint = tmp_path / 'sweep' / 'lambda_1' / 'iter_3.pth'

    def trained_before(command, folder, rows):
        if 'test.py' not in command[1]:
            (folder / 'last_checkpoint').write_text(str(checkpoint))
            return write_session(command, folder, rows[:1])
        session = folder / '20260101_000009'
        (session / 'vis_data').mkdir(parents=True)
        text = Path(command[2]).read_text().replace('load_from = None', f'load_from = {str(checkpoint)!r}')
        (session / 'vis_data' / 'config.py').write_text(text)
        (session / f'{session.name}.json').write_text(json.dumps(dict(mIoU=55.0)))
        return 0

    outcomes[1.0] = trained_before
    run_tool(*config, '--values', 1)
    assert commands[1] == ['test.py', 'sweep/lambda_1/tiny.py', str(checkpoint), '--work-dir', 'sweep/lambda_1']
    assert read_csv(tmp_path / 'sweep')['1']['mIoU, %'] == '55.00'


def test_several_gpus_train_together(launched, config, run_tool):
    run_tool(*config, '--values', 1, '--gpus', 2)
    folder = 'sweep/lambda_1'
    assert launched[0] == [['dist_train.sh', f'{folder}/tiny.py', '2', '--progress', '--work-dir', folder]]


def test_other_values_join_those_before(launched, config, run_tool, tmp_path):
    commands, _ = launched
    run_tool(*config, '--values', 1, 2)
    (tmp_path / 'sweep' / 'lambda_2_copy').mkdir()
    run_tool(*config, '--values', 0.5, '2.0', '--cfg-options', 'train_dataloader.num_workers=1')
    assert folders(commands) == ['lambda_1', 'lambda_2', 'lambda_0.5']
    assert list(read_csv(tmp_path / 'sweep')) == ['0.5', '1', '2']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--cfg-options', 'optim_wrapper.optimizer.lr=0.02'], 'optim_wrapper.optimizer.lr: 0.01, 0.02'),
        (['--cfg-options', 'model.decode_head.loss_decode.1.ksize=3'], 'model.decode_head.loss_decode.1.ksize: 5, 3'),
        (['--cfg-options', 'randomness.seed=1'], 'randomness.seed: 0, 1'),
        (['--gpus', 2], 'gpus: 1, 2'),
    ],
)
def test_a_work_dir_is_for_one_config(launched, config, run_tool, fails_with, options, message):
    commands, _ = launched
    run_tool(*config, '--values', 1)
    assert message in fails_with(*config, '--values', 2, *options)
    assert folders(commands) == ['lambda_1']


def test_trainings_of_unknown_origin_are_left_alone(launched, config, fails_with, tmp_path):
    (tmp_path / 'sweep' / 'lambda_1').mkdir(parents=True)
    assert 'no sweep.json' in fails_with(*config, '--values', 1)
    assert launched[0] == []


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--gpus', 0], 'at least 1, but got 0'),
        (['--cfg-options', 'model.decode_head.loss_decode.1.ksize=9'], 'for ksize 9: give --values'),
        (['--cfg-options', 'model.decode_head.loss_decode.1.type=CrossEntropyLoss'], 'has no CPGLoss'),
        (['--cfg-options', 'val_dataloader=None'], 'does not set val_dataloader'),
    ],
)
def test_a_mistake_is_one_line(launched, config, fails_with, options, message):
    assert message in fails_with(*config, *options)
    assert launched[0] == []


@pytest.mark.parametrize('value', ['-1', 'nan', 'inf', 'one'])
def test_a_weight_is_a_number(config, run_tool, value, capsys):
    with pytest.raises(SystemExit) as leaving:
        run_tool(*config, f'--values={value}')
    assert leaving.value.code == 2
    assert value in capsys.readouterr().err


def test_an_interruption_is_one_line(launched, config, fails_with):
    def interrupt(command, folder, rows):
        raise KeyboardInterrupt

    launched[1][1.0] = interrupt
    assert fails_with(*config, '--values', 1, 2).startswith('Error: Stopped.')
    assert folders(launched[0]) == ['lambda_1']


@pytest.fixture
def hanging(write_config, tmp_path, monkeypatch, port):
    """Start a sweep in a process, whose trainings leave files named by their process ids and then hang."""
    monkeypatch.chdir(tmp_path)
    for name, value in dict(PYTHONPATH=str(tmp_path), CUDA_VISIBLE_DEVICES='', PORT=port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path)
    write_config(tmp_path, f"{LOSSES}custom_imports = dict(imports=['hang'])\n")
    (tmp_path / 'hang.py').write_text(HANG)

    def start(tools, gpus):
        command = [sys.executable, tools / 'sweep.py', *SWEEP, '--gpus', gpus]
        process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(list(tmp_path.glob('*.pid'))) == gpus)
        return process, [int(path.stem) for path in tmp_path.glob('*.pid')]

    yield start
    for path in tmp_path.glob('*.pid'):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.stem), signal.SIGKILL)


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize('gpus', [1, 2])
def test_a_sweep_that_is_terminated_ends_its_training(hanging, tools, fails_with, gpus):
    sweep, trainings = hanging(tools, gpus)
    assert "is running in 'sweep'" in fails_with('sweep', *SWEEP, '--gpus', gpus)
    sweep.terminate()
    _, errors = sweep.communicate()
    assert sweep.returncode == 1
    assert errors.splitlines()[-1].startswith('Error: Stopped.')
    assert not any(map(is_running, trainings))


def test_a_training_that_a_killed_sweep_leaves_behind_keeps_others_out(hanging, tools, fails_with):
    sweep, (training,) = hanging(tools, 1)
    sweep.kill()
    sweep.wait()
    assert is_running(training)
    assert "is running in 'sweep'" in fails_with('sweep', *SWEEP)
    os.kill(training, signal.SIGKILL)
    with Path('sweep/sweep.lock').open('a') as record:
        wait_until(lambda: can_lock(record))


def can_lock(file):
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


@pytest.mark.parametrize(('ksize', 'gpus', 'shown'), [(3, 4, True), (3, 1, False), (5, 4, False)])
def test_the_papers_curve_is_drawn_where_it_is_comparable(tools, ksize, gpus, shown):
    from mmseg_cpg.experiments.sweep import FLOATING_POINT, Point, Sweep, paper_sweep

    cfg = Config.fromfile(CONFIGS / 'deeplabv3_r50_cityscapes_cpg3.py')
    cfg.model.decode_head.loss_decode[1].ksize = ksize
    points = [Point(0, 76.0, 'finished'), Point(1, None, 'not run'), Point(2, 78.0, 'finished')]
    sweep = Sweep('name', [ksize], points, *paper_sweep(cfg, gpus))
    assert sweep.comparable == shown
    assert sweep.best == points[2]
    table = sweep.table()
    assert table.columns[-1] == 'paper (Table 2, floating-point boundary), %'
    assert [row[-1] for row in table.rows] == {3: ['76.75', '79.00', '78.12'], 5: ['76.75', '', '77.78']}[ksize]
    assert ("Differs from the paper's recipe: total batch 3 (recipe: 12)." in table.notes) == (gpus == 1)
    axes = sweep.figure().axes[0]
    assert ([*axes.lines[1].get_xdata()][:3] == [0, 0.2, 0.4]) == shown
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ['this sweep', *[FLOATING_POINT] * shown, 'best: 78.00 % at λ = 2']
    assert axes.get_xlabel() == 'λ (loss_weight of CPGLoss)'
    assert axes.get_ylabel() == 'mIoU at the end of training, %'


def test_no_curve_of_the_paper_beside_another_network(tools):
    from mmseg_cpg.experiments.sweep import paper_sweep

    for name in ('lraspp_m-v3_ade20k_cpg5', 'ocrnet_hr48_cocostuff_cpg7'):
        assert paper_sweep(Config.fromfile(CONFIGS / f'{name}.py'), 8) == ({}, [])
