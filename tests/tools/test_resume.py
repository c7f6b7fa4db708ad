"""With ReproducibleResumeHook, two epochs are one epoch, a resumption and another epoch, bit for bit."""

import json

import pytest
import torch

HOOK = "custom_hooks = [dict(type='mmseg_cpg.ReproducibleResumeHook')]\n"
EPOCHS = """
randomness = {randomness}
model['decode_head']['dropout_ratio'] = 0.5
train_pipeline = [
    *load, dict(type='RandomResize', scale=(40, 40), ratio_range=(0.9, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(32, 32)), dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
pack = [dict(type='PackSegInputs')]
train_dataloader.update(sampler=dict(type='DefaultSampler', shuffle=True))
train_dataloader['dataset']['pipeline'] = train_pipeline + pack
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
default_hooks['checkpoint'] = dict(type='CheckpointHook', interval=1)
log_processor = dict(by_epoch=True)
"""
MOSAIC = """
train_dataloader['dataset'] = dict(
    type='MultiImageMixDataset', dataset=dict(train_dataloader['dataset'], pipeline=load),
    pipeline=[dict(type='RandomMosaic', prob=1.0, img_scale=(32, 32)), *train_pipeline[2:], *pack])
"""
WORKERS = {
    'none': {},
    'two': dict(num_workers=2),
    'two persistent': dict(num_workers=2, persistent_workers=True),
}


@pytest.fixture(scope='module')
def write(write_config):
    def write(folder, workers='none', extra=HOOK, randomness='dict(seed=0)'):
        workers = f'train_dataloader.update({WORKERS[workers]})\n'
        return write_config(folder, EPOCHS.format(randomness=randomness) + workers + extra)

    return write


def train(run_tool, config, work_dir, *options):
    """Train, and return the last checkpoint without its logs, and the logged losses by iteration."""
    run_tool('train', config, '--work-dir', work_dir, *options)
    checkpoint = torch.load(work_dir / 'epoch_2.pth', weights_only=False)
    momenta = {i: state['momentum_buffer'] for i, state in checkpoint['optimizer']['state'].items()}
    rows = [json.loads(line) for log in work_dir.glob('*/vis_data/scalars.json') for line in log.open()]
    losses = {row['step']: (row['loss'], row['decode.acc_seg']) for row in rows if 'loss' in row}
    return {**checkpoint['state_dict'], **momenta}, losses


def assert_second_epoch_same(resumed, whole):
    (tensors, losses), (expected_tensors, expected_losses) = resumed, whole
    assert (losses.keys(), expected_losses.keys()) == ({3, 4}, {1, 2, 3, 4})
    assert losses == {step: expected_losses[step] for step in losses}
    assert tensors.keys() == expected_tensors.keys()
    for name, tensor in expected_tensors.items():
        assert torch.equal(tensors[name], tensor), name


@pytest.fixture(scope='module')
def runs():
    """Finished runs by name, so that those which several tests need are made once."""
    return {}


@pytest.fixture
def whole(runs, write, run_tool, tmp_path):
    """The work dir and the result of a run of two epochs without workers."""
    if 'whole' not in runs:
        runs['whole'] = tmp_path / 'whole', train(run_tool, write(tmp_path), tmp_path / 'whole')
    return runs['whole']


@pytest.mark.parametrize('workers', WORKERS)
def test_resumed_run_is_bit_exact(whole, write, run_tool, tmp_path, workers):
    work_dir, expected = whole
    resumed = train(run_tool, write(tmp_path, workers), tmp_path / 'work', '--resume', work_dir / 'epoch_1.pth')
    assert_second_epoch_same(resumed, expected)


@pytest.mark.parametrize('workers', ['two', 'two persistent'])
def test_number_of_workers_changes_nothing(whole, write, run_tool, tmp_path, workers):
    tensors, losses = train(run_tool, write(tmp_path, workers), tmp_path / 'work')
    _, (expected, expected_losses) = whole
    assert losses == expected_losses
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    'options', [dict(randomness='dict(seed=None)'), dict(extra=HOOK + MOSAIC)], ids=['seed not set', 'mosaic']
)
def test_resumed_run_without_a_seed_and_with_mixed_images(write, run_tool, tmp_path, options):
    config = write(tmp_path, **options)
    whole = train(run_tool, config, tmp_path / 'whole')
    resumed = train(run_tool, config, tmp_path / 'resumed', '--resume', tmp_path / 'whole' / 'epoch_1.pth')
    assert_second_epoch_same(resumed, whole)


def test_without_the_hook_the_resumed_run_differs(write, run_tool, tmp_path):
    config = write(tmp_path, extra='')
    _, whole = train(run_tool, config, tmp_path / 'whole')
    _, resumed = train(run_tool, config, tmp_path / 'resumed', '--resume', tmp_path / 'whole' / 'epoch_1.pth')
    assert resumed[3] != whole[3]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda checkpoint: checkpoint.pop('random_states'), 'has no random states'),
        (lambda checkpoint: checkpoint['random_states']['processes'].append({}), 'states of 2 processes'),
    ],
)
def test_a_checkpoint_whose_states_do_not_fit_is_resumed_with_a_warning(
    whole, write, run_tool, tmp_path, change, message
):
    work_dir, _ = whole
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / 'changed.pth')
    train(run_tool, write(tmp_path), tmp_path / 'work', '--resume', tmp_path / 'changed.pth')
    (log,) = (tmp_path / 'work').glob('*/*.log')
    assert message in log.read_text()


def test_weights_alone_bring_no_random_states(whole, write, run_tool, tmp_path):
    work_dir, (_, losses) = whole
    config = write(tmp_path, randomness='dict(seed=1)')
    options = ['--cfg-options', f'load_from={work_dir / "epoch_1.pth"}']
    _, fine_tuned = train(run_tool, config, tmp_path / 'work', *options)
    assert fine_tuned.keys() == losses.keys()
    assert fine_tuned[1] != losses[3]


def test_an_iteration_based_loop_is_refused(write_config, fails_with, tmp_path):
    assert 'got IterBasedTrainLoop' in fails_with('train', write_config(tmp_path, HOOK))
