"""Two CPU processes under torchrun."""

from pathlib import Path

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

import mmseg_cpg  # noqa: F401  registers CPGLoss

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
RATE = 2.0
# Batch statistics belong to a process, so those of the network under test are frozen. The auxiliary head's SyncBN is
# not: it must have become BN.
EXTRA = f"""
frozen = dict(type='BN', requires_grad=False)
model['backbone'].update(norm_cfg=frozen, norm_eval=True)
model['auxiliary_head'] = dict(model['decode_head'], in_index=0, in_channels=8)
model['decode_head'].update(norm_cfg=None, loss_decode=[
    dict(type='CrossEntropyLoss', avg_non_ignore=True), dict(type='CPGLoss', loss_weight=1.0)])
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr={RATE}))
param_scheduler = []
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
"""


@pytest.fixture(scope='module')
def trained(write_config, in_process, port, tmp_path_factory):
    """The folder in which two processes took one training step, the config, and what they printed."""
    folder = tmp_path_factory.mktemp('dist')
    config = Config.fromfile(write_config(folder, EXTRA, name='dist.py'))
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    torch.save(model.state_dict(), folder / 'start.pth')
    command = [TOOLS / 'dist_train.sh', 'dist.py', 2, '--cfg-options', 'load_from=start.pth']
    output = in_process(*command, cwd=folder, PORT=port)
    assert output.returncode == 0, output.stderr
    return folder, config, output


def step_gradients(config, start, indices):
    """The gradients and losses of one training step on some images of the training set, in this process."""
    model = revert_sync_batchnorm(MODELS.build(config.model))
    model.load_state_dict(start)
    model.train()
    dataset = DATASETS.build(config.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[index] for index in indices]), training=True)
    losses = model(**batch, mode='loss')
    model.parse_losses(losses)[0].backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return gradients, losses


def test_gradients_are_the_mean_of_the_two_ranks_gradients(trained):
    folder, config, _ = trained
    start = torch.load(folder / 'start.pth')
    end = torch.load(folder / 'work' / 'iter_1.pth', weights_only=False)['state_dict']
    (first, losses), (second, _) = (step_gradients(config, start, range(rank, 4, 2)) for rank in (0, 1))
    assert losses['decode.loss_cpg'] > 0
    assert 'decode_head.conv_seg.weight' in first
    for name, gradient in first.items():
        taken = (start[name] - end[name]) / RATE
        torch.testing.assert_close(taken, (gradient + second[name]) / 2, rtol=1e-4, atol=1e-6)
    weights = [gradients['decode_head.conv_seg.weight'] for gradients in (first, second)]
    assert not torch.allclose(*weights, rtol=1e-2)


def test_precomputed_boundaries_change_no_weight_on_two_ranks(trained, in_process, port):
    folder, _, _ = trained
    # A loss that had to find its boundary itself would fail.
    search = "__import__('sys').modules['mmseg_cpg.ops.cpg.sparse']"
    (folder / 'precomputed.py').write_text(
        f"_base_ = 'dist.py'\n__import__('mmseg_cpg')\n{search}.targets_of_batch = None\n"
    )
    command = [TOOLS / 'dist_train.sh', 'precomputed.py', 2, '--work-dir', 'precomputed']
    options = ['--cfg-options', 'load_from=start.pth', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
    output = in_process(*command, *options, cwd=folder, PORT=port)
    assert output.returncode != 0
    assert "'NoneType' object is not callable" in output.stderr

    output = in_process(*command, '--precompute-boundaries', *options, cwd=folder, PORT=port)
    assert output.returncode == 0, output.stderr
    on_the_fly, precomputed = (
        torch.load(folder / work_dir / 'iter_1.pth', weights_only=False)['state_dict']
        for work_dir in ('work', 'precomputed')
    )
    for name, weight in on_the_fly.items():
        assert torch.equal(precomputed[name], weight), name


def test_the_first_screen_says_what_runs_where(trained):
    _, _, output = trained
    assert output.stdout.count('training on CPU with the gloo backend') == 1
    assert 'Warning' not in output.stderr + output.stdout


def test_dist_test_saves_every_prediction_once(trained, in_process, port):
    folder, _, training = trained
    command = [TOOLS / 'dist_test.sh', 'dist.py', 'work/iter_1.pth', 2, '--out', 'out', '--work-dir', 'tested']
    output = in_process(*command, cwd=folder, PORT=port)
    assert output.returncode == 0, output.stderr
    saved = {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in (folder / 'out').iterdir()}
    assert saved == {f'{index}.png': (32, 32) for index in range(3)}
    validated, tested = (text.stdout.partition('aAcc: ')[2].split()[0] for text in (training, output))
    assert float(validated) == pytest.approx(float(tested), abs=0.01)


def test_a_mistake_is_said_once(in_process, port, tmp_path):
    output = in_process(TOOLS / 'dist_train.sh', 'none.py', 2, cwd=tmp_path, PORT=port)
    assert output.returncode != 0
    assert output.stderr.count("Error: Config 'none.py'") == 1


@pytest.mark.parametrize(('script', 'arguments'), [('dist_train.sh', ['a.py']), ('dist_test.sh', ['a.py', 'b.pth'])])
def test_missing_arguments_show_the_usage(in_process, tmp_path, script, arguments):
    output = in_process(TOOLS / script, *arguments, cwd=tmp_path)
    assert output.returncode == 2
    assert 'Usage: ' in output.stderr
    output = in_process(TOOLS / script, *arguments, '--amp', cwd=tmp_path)
    assert output.returncode == 2
    assert "got '--amp'" in output.stderr
