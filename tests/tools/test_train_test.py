import json
import os
import pickle
import re
import sys
from pathlib import Path

import cv2
import mmengine.device
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils.dl_utils import load_url
from mmseg.models.decode_heads import FCNHead
from mmseg.models.segmentors import SegTTAModel

from mmseg_cpg.ops.cpg import sparse

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
CPG_LOSS = 'model.decode_head.loss_decode'
CPG = [f'{CPG_LOSS}._delete_=True', f'{CPG_LOSS}.type=CPGLoss']


class Call:
    """Pickles as a call of a function, which unpickling would make."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.fixture(scope='module')
def trained(write_config, in_process, tmp_path_factory):
    """A config, the work dir in which it was trained in a process of its own, and what that printed."""
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder)
    output = in_process(sys.executable, TOOLS / 'train.py', 'tiny.py', '--work-dir', 'elsewhere', cwd=folder)
    assert output.returncode == 0, output.stderr
    return config, folder / 'elsewhere', output


def test_progress_in_place_of_the_log(write_config, in_process, tmp_path):
    config = write_config(tmp_path)
    command = sys.executable, TOOLS / 'train.py', config, '--work-dir', tmp_path / 'work', '--progress'
    output = in_process(*command, cwd=tmp_path)
    assert output.returncode == 0, output.stderr
    assert re.fullmatch(r'training 3/3, loss \d\.\d{3}, 0:00:00 left\n', output.stdout)
    assert 'Iter(train) [3/3]' in (tmp_path / 'work' / 'train.log').read_text()


def test_progress_of_a_training_that_fails(write_config, in_process, tmp_path):
    config = write_config(tmp_path)
    command = sys.executable, TOOLS / 'train.py', config, '--work-dir', tmp_path / 'work', '--progress'
    output = in_process(*command, '--cfg-options', f'{CPG_LOSS}.class_weight=[1.0]', cwd=tmp_path)
    assert output.returncode == 1
    *lines, place, error = output.stderr.splitlines()
    assert 0 < len(lines) <= 20
    assert place == f'The complete log is in {tmp_path / "work" / "train.log"}.'
    assert error.startswith('Error: RuntimeError: weight tensor')


def read_losses(work_dir):
    """The losses that the runs in a work dir logged, by iteration."""
    rows = [json.loads(line) for log in work_dir.glob('*/vis_data/scalars.json') for line in log.open()]
    return {row['step']: row['loss'] for row in rows if 'loss' in row}


def read_images(folder):
    return {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.rglob('*.png')}


def test_train_from_another_folder_with_a_clean_first_screen(trained):
    _, work_dir, output = trained
    assert output.stdout.splitlines()[0].endswith('mmengine - INFO - ')
    assert output.stderr == ''
    assert read_losses(work_dir).keys() == {1, 2, 3}
    assert {f'iter_{step}.pth' for step in (1, 2, 3)} < {path.name for path in work_dir.iterdir()}


@pytest.mark.parametrize('value', [[], ['auto'], ['iter_1.pth']])
def test_resume_matches_an_uninterrupted_run(trained, run_tool, tmp_path, value):
    config, whole, _ = trained
    if value == ['iter_1.pth']:
        resume, first = [whole / value[0]], 2
    else:
        (tmp_path / 'last_checkpoint').write_text(str(whole / 'iter_2.pth'))
        resume, first = value, 3
    run_tool('train', config, '--work-dir', tmp_path, '--resume', *resume)
    assert min(read_losses(tmp_path)) == first
    expected, resumed = (torch.load(folder / 'iter_3.pth')['state_dict'] for folder in (whole, tmp_path))
    assert resumed.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-4, atol=1e-6)


def test_resume_in_a_new_folder_trains_without_a_warning(trained, run_tool, tmp_path):
    config, _, _ = trained
    run_tool('train', config, '--resume', '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_iters=1')
    assert read_losses(tmp_path).keys() == {1}
    (log,) = tmp_path.glob('*/*.log')
    assert 'No checkpoint' not in log.read_text()


def test_cfg_options_and_auto_scale_lr_reach_the_run(trained, run_tool, tmp_path):
    config, _, _ = trained
    options = ['train_cfg.max_iters=1', 'optim_wrapper.optimizer.lr=0.4', 'auto_scale_lr.base_batch_size=8']
    run_tool(
        'train', config, '--work-dir', tmp_path, '--auto-scale-lr', '--cfg-options', *options, 'param_scheduler=[]'
    )
    optimizer = torch.load(tmp_path / 'iter_1.pth')['optimizer']
    assert optimizer['param_groups'][0]['lr'] == pytest.approx(0.4 * 2 / 8)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_precomputed_boundaries_change_no_weight(trained, run_tool, tmp_path, monkeypatch, num_workers):
    config, _, _ = trained
    searched = []
    search = sparse.targets_of_batch

    def spy(*args):
        searched.append(args)
        return search(*args)

    monkeypatch.setattr(sparse, 'targets_of_batch', spy)
    weights = []
    for switch in ([], ['--precompute-boundaries']):
        work_dir = tmp_path / str(len(switch))
        options = [*CPG, f'train_dataloader.num_workers={num_workers}']
        run_tool('train', config, '--work-dir', work_dir, *switch, '--cfg-options', *options)
        weights.append(torch.load(work_dir / 'iter_3.pth')['state_dict'])
    assert len(searched) == 3
    for name, weight in weights[0].items():
        assert torch.equal(weights[1][name], weight), name


def test_fused_losses_train_the_same_network(trained, run_tool, tmp_path):
    config, _, _ = trained
    losses = [dict(type='CrossEntropyLoss', avg_non_ignore=True), dict(type='CPGLoss')]
    (tmp_path / 'two.py').write_text(
        f"_base_ = '{config}'\nmodel = dict(decode_head=dict(loss_decode={losses}))\ntrain_cfg = dict(max_iters=1)\n"
    )
    weights = []
    for number, switches in enumerate([[], ['--fuse-losses'], ['--fuse-losses', '--precompute-boundaries']]):
        run_tool('train', tmp_path / 'two.py', '--work-dir', tmp_path / str(number), *switches)
        weights.append(torch.load(tmp_path / str(number) / 'iter_1.pth')['state_dict'])
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6)
        assert torch.equal(weights[2][name], weights[1][name]), name


@pytest.mark.skipif(torch.cuda.is_available(), reason='shows only that AmpOptimWrapper, which needs a GPU, is built')
def test_amp_switches_the_optim_wrapper(trained, fails_with, tmp_path, monkeypatch):
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cuda')
    assert 'AmpOptimizerWrapper' in fails_with('train', trained[0], '--work-dir', tmp_path, '--amp')


def test_test_evaluates_saves_and_paints(trained, run_tool, data_root, tmp_path):
    config, work_dir, _ = trained
    folders = ['--work-dir', tmp_path / 'work', '--out', tmp_path / 'out', '--show-dir', tmp_path / 'show']
    run_tool('test', config, work_dir / 'iter_3.pth', *folders)
    predictions = read_images(tmp_path / 'out')
    assert predictions.keys() == {'0.png', '1.png', '2.png'}
    labels = read_images(data_root / 'ann_dir' / 'val')
    right = sum(int((predictions[name] == labels[name]).sum()) for name in labels)
    (log,) = (tmp_path / 'work').glob('*/*.json')
    assert json.loads(log.read_text())['aAcc'] == pytest.approx(
        100 * right / sum(int((label != 255).sum()) for label in labels.values()), abs=0.01
    )
    painted = read_images(tmp_path / 'show')
    assert len(painted) == 3
    assert all(image.shape[-1] == 3 for image in painted.values())


def test_tta_merges_the_augmented_views(trained, run_tool, tmp_path, monkeypatch):
    merged = []
    merge = SegTTAModel.merge_preds

    def spy(self, data_samples_list):
        merged.extend(len(views) for views in data_samples_list)
        return merge(self, data_samples_list)

    monkeypatch.setattr(SegTTAModel, 'merge_preds', spy)
    config, work_dir, _ = trained
    run_tool('test', config, work_dir / 'iter_3.pth', '--work-dir', tmp_path, '--tta', '--out', tmp_path / 'out')
    assert merged == [2, 2, 2]
    assert read_images(tmp_path / 'out').keys() == {'0.png', '1.png', '2.png'}


@pytest.mark.parametrize(
    ('tool', 'options', 'message'),
    [
        (
            'train',
            ['model.decode_head.loss_decode.type=CrossEntropyLos'],
            'CrossEntropyLos is not in the mmseg::model registry',
        ),
        (
            'train',
            ['model.decode_head.loss_decode.type=mmseg_cpg.CPGLos'],
            'mmseg_cpg.CPGLos is not in the mmseg::model registry',
        ),
        ('train', ['model.decode_head.chanels=4'], "unexpected keyword argument 'chanels'"),
        (
            'train',
            ['train_dataloader.dataset.pipeline.0.type=LoadImage'],
            'LoadImage is not in the mmseg::transform registry',
        ),
        ('train', [*CPG, f'{CPG_LOSS}.ksize=4'], 'ksize'),
        ('train', [*CPG, f'{CPG_LOSS}.kernel=3'], "unexpected keyword argument 'kernel'"),
        ('train', ['optim_wrapper.optimizer.lrr=1'], "unexpected keyword argument 'lrr'"),
        ('train', [*CPG, f'{CPG_LOSS}.loss_weight=heavy'], "loss_weight must be a finite number, got 'heavy'"),
        ('train', ['tta_pipeline.9.type=Resize'], '--cfg-options do not fit the config: tta_pipeline.9.type=Resize: '),
        (
            'train',
            ['train_dataloader.dataset.pipeline.type=Resize'],
            'train_dataloader.dataset.pipeline is a list of 3, write train_dataloader.dataset.pipeline.N.type',
        ),
        ('train', ['train_dataloader.dataset.data_root=data/none'], "Dataset folder 'data/none'"),
        ('train', ['val_dataloader.dataset.data_root=data/none'], "Dataset folder 'data/none' (val_dataloader"),
        ('test', ['test_dataloader.dataset.data_root=data/none'], "Dataset folder 'data/none' (test_dataloader"),
        ('train', ['train_dataloader.dataset.data_prefix.img_path=images'], "/images' (train_dataloader"),
        ('train', ['train_dataloader.dataset.data_prefix.seg_map_path=labels'], "/labels' (train_dataloader"),
        ('train', ['train_dataloader.dataset.ann_file=train.txt'], "/train.txt' (train_dataloader"),
        ('train', ['train_dataloader.dataset.img_suffix=.bmp'], "No '*.bmp' images in"),
        ('train', ['load_from=none.pth'], "Checkpoint 'none.pth' not found"),
        ('train', ['optim_wrapper=None'], 'does not set optim_wrapper'),
        ('test', ['test_evaluator=None'], 'does not set test_evaluator'),
    ],
)
def test_a_mistake_in_the_config_is_one_line(trained, fails_with, tmp_path, tool, options, message):
    config, work_dir, _ = trained
    checkpoint = [work_dir / 'iter_3.pth'] if tool == 'test' else []
    assert message in fails_with(tool, config, *checkpoint, '--work-dir', tmp_path, '--cfg-options', *options)


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'),
    [
        ('train', ['--resume', 'none.pth'], "Checkpoint 'none.pth' not found"),
        ('test', ['none.pth'], "Checkpoint 'none.pth' not found"),
        ('train', ['--amp'], 'needs a GPU'),
        (
            'train',
            ['--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'],
            "the config has 'ApexOptimWrapper'",
        ),
        ('train', ['--precompute-boundaries'], 'needs one of the losses ActiveBoundaryLoss, CPGLoss'),
        ('train', ['--fuse-losses'], 'needs a head with a CPGLoss'),
        ('train', ['--auto-scale-lr'], 'auto_scale_lr = dict(base_batch_size=16)'),
        ('train', ['--launcher', 'pytorch'], 'tools/dist_train.sh'),
        ('train', ['--launcher', 'slurm'], 'tools/slurm_train.sh'),
        ('train', ['--launcher', 'mpi'], 'needs GPUs'),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    trained, fails_with, tmp_path, monkeypatch, tool, arguments, message
):
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    assert message in fails_with(tool, trained[0], *arguments, '--work-dir', tmp_path)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, "config.py' not found."),
        ("_base_ = 'none.py'", 'none.py'),
        ("_base_ = 'mmseg::_base_/none.py'", 'none.py'),
        ('model = dict(', 'syntax error'),
        ("custom_imports = dict(imports='none.such')", "{'imports': 'none.such'}"),
        ("_base_ = ['mmseg::_base_/default_runtime.py'] * 2", 'Duplicate key'),
        (
            "_base_ = 'mmseg::_base_/models/ocrnet_hr18.py'\nmodel = dict(decode_head=dict(channels=1))",
            'cannot inherit from base',
        ),
        (
            "_base_ = 'mmseg::_base_/models/ocrnet_hr18.py'\nlosses = _base_.model.decode_head.loss_decode",
            "AttributeError: 'list' object has no attribute 'loss_decode' (",
        ),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line(fails_with, tmp_path, text, message):
    config = tmp_path / 'config.py'
    if text is not None:
        config.write_text(text)
    assert message in fails_with('train', config)


def test_a_folder_in_place_of_a_config_is_one_line(fails_with, tmp_path):
    assert fails_with('train', tmp_path) == f"Error: Config '{tmp_path}' is a folder: name a file in it."


def test_a_pair_without_a_value_is_a_usage_error(run_tool, capsys):
    with pytest.raises(SystemExit) as leaving:
        run_tool('train', 'config.py', '--cfg-options', 'model')
    assert leaving.value.code == 2
    assert 'KEY=VALUE' in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(trained, run_tool, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError('a bug')

    monkeypatch.setattr(FCNHead, 'forward', broken)
    with pytest.raises(KeyError, match='a bug'):
        run_tool('train', trained[0], '--work-dir', tmp_path)


@pytest.mark.parametrize('module', ['mmseg', 'mmcv.ops', 'ftfy'])
def test_a_missing_dependency_is_one_line(tools, monkeypatch, module):
    import bootstrap

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=rf'^Error: {module} cannot be imported .*requirements/stack.txt'):
        bootstrap.check_dependencies()


def test_a_checkpoint_that_runs_code_is_refused(trained, fails_with, tmp_path):
    trap = tmp_path / 'trap'
    for name, call in {
        'posix.mkdir': Call(os.mkdir, str(trap)),
        'builtins.getattr': Call(getattr, HistoryBuffer, '__init__'),
    }.items():
        torch.save({'state_dict': {}, 'extra': call}, tmp_path / 'evil.pth')
        message = fails_with('test', trained[0], tmp_path / 'evil.pth', '--work-dir', tmp_path)
        assert f'was refused: it contains {name}' in message
    assert not trap.exists()


def test_a_download_that_runs_code_is_refused(tools, tmp_path):
    from mmseg_cpg.engine.safe_unpickling import allow_training_logs

    allow_training_logs()
    torch.save(Call(os.mkdir, str(tmp_path / 'trap')), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError):
        load_url((tmp_path / 'evil.pth').as_uri(), model_dir=str(tmp_path / 'hub'), progress=False)
    assert not (tmp_path / 'trap').exists()


def test_a_checkpoint_whose_config_is_code_does_not_run_it(trained, run_tool, tmp_path):
    config, work_dir, _ = trained
    checkpoint = torch.load(work_dir / 'iter_2.pth')
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(tmp_path / "trap")!r})\n'
    torch.save(checkpoint, tmp_path / 'evil.pth')
    run_tool('train', config, '--work-dir', tmp_path / 'work', '--resume', tmp_path / 'evil.pth')
    assert read_losses(tmp_path / 'work').keys() == {3}
    assert not (tmp_path / 'trap').exists()


def test_a_file_that_is_no_checkpoint_is_one_line(trained, fails_with, tmp_path):
    config, work_dir, _ = trained
    whole = (work_dir / 'iter_3.pth').read_bytes()
    for content in (b'', b'hello', b'# notes', whole[: len(whole) // 2]):
        (tmp_path / 'broken.pth').write_bytes(content)
        message = fails_with('test', config, tmp_path / 'broken.pth', '--work-dir', tmp_path)
        assert 'is corrupt or not a checkpoint (' in message
        assert 'weights_only' not in message


def test_weights_alone_are_not_resumed(trained, fails_with, tmp_path):
    config, work_dir, _ = trained
    torch.save({'state_dict': torch.load(work_dir / 'iter_3.pth')['state_dict']}, tmp_path / 'weights.pth')
    assert 'no training state' in fails_with(
        'train', config, '--work-dir', tmp_path, '--resume', tmp_path / 'weights.pth'
    )


def test_statistics_of_a_trained_history_survive_loading(trained, tools):
    from mmseg_cpg.engine.safe_unpickling import allow_training_logs

    allow_training_logs()
    scalars = torch.load(trained[1] / 'iter_3.pth')['message_hub']['log_scalars']
    history = scalars['train/loss'].data[0]
    assert history.dtype == np.float64
    assert len(history) == 3
    assert history.mean() == pytest.approx(read_losses(trained[1])[3])  # the log shows means over a window
    assert scalars['train/loss'].statistics('max') == history.max()


def test_a_checkpoint_from_numpy_1_is_loaded(tools, tmp_path):
    from mmseg_cpg.engine.safe_unpickling import allow_training_logs

    allow_training_logs()
    stored = {'array': np.arange(3.0), 'scalar': np.float64(0.5)}
    torch.save(stored, tmp_path / 'new.pth', _use_new_zipfile_serialization=False)
    content = (tmp_path / 'new.pth').read_bytes()
    core = b'numpy._core.multiarray' if b'numpy._core' in content else b'numpy.core.multiarray'
    for name in (b'numpy.core.multiarray', b'numpy._core.multiarray'):
        (tmp_path / 'old.pth').write_bytes(content.replace(core, name))
        loaded = torch.load(tmp_path / 'old.pth')
        assert loaded['array'].tolist() == [0, 1, 2]
        assert loaded['scalar'] == 0.5


def test_the_check_can_be_switched_off_for_a_trusted_file(trained, run_tool, tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD')
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    config, work_dir, _ = trained
    checkpoint = torch.load(work_dir / 'iter_3.pth', weights_only=False)
    torch.save({**checkpoint, 'made by': Path('somewhere')}, tmp_path / 'own.pth')
    run_tool('test', config, tmp_path / 'own.pth', '--work-dir', tmp_path, '--out', tmp_path / 'out')
    assert len(read_images(tmp_path / 'out')) == 3
