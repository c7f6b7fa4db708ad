"""What an epoch draws: how many, from which set, with which classes, in which process."""

import logging
import os
import re
import shutil
from pathlib import Path

import cv2
import mmengine.dataset.sampler
import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import DATA_SAMPLERS, DATASETS

from mmseg_cpg import AutoLabelledSampler
from mmseg_cpg.datasets import label_values
from mmseg_cpg.datasets.samplers import auto_labelled_sampler
from mmseg_cpg.datasets.samplers import pixel_counts as pixel_counts_module
from mmseg_cpg.datasets.samplers.class_shares import class_shares
from mmseg_cpg.datasets.samplers.pixel_counts import pixel_counts

from ..conftest import NUM_AUTO, NUM_FINE

SWITCH_EPOCH = 3


@pytest.fixture
def dataset(dataset_cfg):
    init_default_scope('mmseg')
    return DATASETS.build(dataset_cfg)


@pytest.fixture
def own_tree(dataset_cfg, cityscapes, tmp_path):
    """A copy of the tree that a test may change, and its dataset config."""
    root = tmp_path / 'cityscapes'
    shutil.copytree(cityscapes, root)
    for path in root.glob('*/*_label_values.npz'):
        path.unlink()
    init_default_scope('mmseg')
    return root, {**dataset_cfg, 'data_root': str(root)}


def build(dataset, **settings):
    cfg = dict(type='AutoLabelledSampler', dataset=dataset, switch_epoch=SWITCH_EPOCH, seed=5)
    return DATA_SAMPLERS.build({**cfg, **settings})


@pytest.fixture
def in_world(monkeypatch):
    """Build the sampler of each process of a run, without processes."""

    def build_all(dataset, world_size, **settings):
        shared = []

        def broadcast(objects):
            shared.extend(objects if not shared else [])
            objects[:] = shared

        samplers = []
        monkeypatch.setattr(auto_labelled_sampler, 'broadcast_object_list', broadcast)
        for rank in range(world_size):
            monkeypatch.setattr(mmengine.dataset.sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
            samplers.append(build(dataset, **settings))
            # Only the first process reads labels.
            monkeypatch.setattr(auto_labelled_sampler, 'pixel_counts', None)
        monkeypatch.undo()
        return samplers

    return build_all


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize('world_size', [1, 2, 4, 8])
def test_epochs_are_as_long_as_without_and_mixed_by_halves(dataset, in_world, world_size):
    samplers = in_world(dataset, world_size)
    length = -(-NUM_FINE // world_size)
    for epoch in range(SWITCH_EPOCH):
        parts = [epoch_of(sampler, epoch) for sampler in samplers]
        assert [len(part) for part in parts] == [len(sampler) for sampler in samplers] == [length] * world_size
        drawn = np.concatenate(parts)
        assert len(np.unique(drawn)) == len(drawn) == length * world_size
        num_auto = (drawn >= NUM_FINE).sum()
        assert num_auto == len(drawn) // 2
        assert set(drawn) <= set(range(NUM_FINE + NUM_AUTO))


@pytest.mark.parametrize('world_size', [1, 4])
def test_from_the_switch_on_it_is_the_default_sampler(dataset, in_world, monkeypatch, world_size):
    for rank, sampler in enumerate(in_world(dataset, world_size)):
        monkeypatch.setattr(mmengine.dataset.sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
        default = DefaultSampler(dataset.datasets[0], seed=5)
        for epoch in (SWITCH_EPOCH, SWITCH_EPOCH + 1, 174):
            assert epoch_of(sampler, epoch) == epoch_of(default, epoch)
        assert max(epoch_of(sampler, SWITCH_EPOCH - 1)) >= NUM_FINE


def test_class_shares_are_those_of_the_fine_set(dataset):
    fine, auto = dataset.datasets
    counts = np.concatenate([pixel_counts(fine), pixel_counts(auto)])
    shares = class_shares(counts[:NUM_FINE])
    sampler = build(dataset, switch_epoch=2000)
    drawn = np.array([epoch_of(sampler, epoch) for epoch in range(2000)])
    of_auto = class_shares(counts[drawn[drawn >= NUM_FINE]])
    assert np.abs(class_shares(counts[NUM_FINE:]) / shares - 1).max() > 0.3  # what drawing evenly would give
    np.testing.assert_allclose(of_auto, shares, rtol=0.03)
    np.testing.assert_allclose(class_shares(counts[drawn.ravel()]), shares, rtol=0.03)
    exact = class_shares(sampler.probabilities[:, None] * counts[NUM_FINE:])
    np.testing.assert_allclose(exact, shares, rtol=1e-3, atol=1e-5)
    # No fine image is preferred either.
    frequency = np.bincount(drawn[drawn < NUM_FINE], minlength=NUM_FINE) / 2000
    np.testing.assert_allclose(frequency, 11 / 21, atol=0.05)


def test_an_epoch_depends_on_seed_and_epoch_alone(dataset):
    first, second = build(dataset), build(dataset)
    epochs = [epoch_of(first, epoch) for epoch in range(SWITCH_EPOCH + 1)]
    assert epoch_of(second, 2) == epochs[2]
    assert epoch_of(first, 1) == epochs[1]
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    assert epoch_of(build(dataset, seed=6), 0) != epochs[0]


def test_counts_are_those_of_the_labels(dataset):
    for part in dataset.datasets:
        labels = [part[index]['data_samples'].gt_sem_seg.data for index in range(len(part))]
        expected = [[(label == class_index).sum().item() for class_index in range(19)] for label in labels]
        np.testing.assert_array_equal(pixel_counts(part), expected)


def test_counts_are_kept_until_the_list_of_files_changes(own_tree):
    root, dataset_cfg = own_tree
    sampler = build(DATASETS.build(dataset_cfg))
    kept = sorted(path.relative_to(root).as_posix() for path in root.rglob('*.npz'))
    assert kept == ['gtFine/train_label_values.npz', 'refinement_final/train_extra_label_values.npz']

    label = next((root / 'refinement_final').rglob('*.png'))
    image = root / 'leftImg8bit/train_extra/city' / label.name
    content, status = label.read_bytes(), label.stat()
    label.write_bytes(bytes(len(content)))  # cannot be read, and is not read
    os.utime(label, ns=(status.st_atime_ns, status.st_mtime_ns))
    np.testing.assert_array_equal(build(DATASETS.build(dataset_cfg)).probabilities, sampler.probabilities)
    label.write_bytes(content)
    image.unlink()
    assert len(build(DATASETS.build(dataset_cfg)).probabilities) == NUM_AUTO - 1
    (root / kept[0]).write_bytes(b'no archive')
    np.testing.assert_array_equal(
        build(DATASETS.build(dataset_cfg)).probabilities, build(DATASETS.build(dataset_cfg)).probabilities
    )


@pytest.mark.parametrize('same', ['size', 'time'])
def test_labels_that_changed_are_counted_again(own_tree, monkeypatch, same):
    _, dataset_cfg = own_tree
    auto = DATASETS.build(dataset_cfg).datasets[1]
    before = pixel_counts(auto)
    path = Path(auto.get_data_info(3)['seg_map_path'])
    content, status = path.read_bytes(), path.stat()
    cv2.imwrite(str(path), np.full((16, 32), 7, np.uint8))
    if same == 'size':
        path.write_bytes(path.read_bytes().ljust(len(content), b'\0'))
    else:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    read = []
    count = label_values.count_values
    monkeypatch.setattr(pixel_counts_module, 'count_values', lambda path, step: read.append(path) or count(path, step))
    after = pixel_counts(auto)
    assert after[3].tolist() == [16 * 32, *[0] * 18]
    np.testing.assert_array_equal(np.delete(after, 3, 0), np.delete(before, 3, 0))
    np.testing.assert_array_equal(pixel_counts(auto), after)
    assert read == [str(path)]


def test_a_folder_that_cannot_be_written_is_no_error(own_tree, monkeypatch):
    root, dataset_cfg = own_tree

    def refuse(*args, **kwargs):
        raise PermissionError('read-only')

    monkeypatch.setattr(np, 'savez_compressed', refuse)
    assert len(build(DATASETS.build(dataset_cfg)).probabilities) == NUM_AUTO
    assert not list(root.rglob('*.npz'))


def test_a_set_that_lacks_a_class_is_an_error(own_tree):
    root, dataset_cfg = own_tree
    for path in (root / 'refinement_final').rglob('*.png'):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[label == 31] = 0
        cv2.imwrite(str(path), label)
    with pytest.raises(
        ValueError, match=r'no auto-labeled image contains train, which .*train_extra_label_values\.npz'
    ):
        build(DATASETS.build(dataset_cfg))


def test_a_set_that_has_too_little_of_a_class_is_a_warning(own_tree, monkeypatch):
    root, dataset_cfg = own_tree
    for path in (root / 'refinement_final').rglob('*.png'):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[np.flatnonzero(label.ravel() == 31)[1:] // 32, :] = 0  # leaves at most one row with trains
        cv2.imwrite(str(path), label)
    warnings = []
    monkeypatch.setattr(
        auto_labelled_sampler, 'print_log', lambda message, logger, level: warnings.append((message, level))
    )
    dataset = DATASETS.build(dataset_cfg)
    sampler = build(dataset)
    ((message, level),) = warnings
    assert level == logging.WARNING
    assert re.search(r'\d+ of 19 classes deviate by .* pixels instead of [\d.]+%\.$', message)
    assert len(epoch_of(sampler, 0)) == NUM_FINE


def test_a_set_that_is_too_small_is_an_error(dataset_cfg):
    init_default_scope('mmseg')
    dataset = DATASETS.build({**dataset_cfg, 'indices': 9})
    dataset.datasets[0] = DATASETS.build(dataset_cfg).datasets[0]
    with pytest.raises(ValueError, match='needs more than 10 auto-labeled images, but there are 9'):
        build(dataset)


def test_a_label_that_cannot_be_read_is_named(own_tree):
    root, dataset_cfg = own_tree
    label = next((root / 'gtFine').rglob('*.png'))
    label.write_bytes(label.read_bytes()[:60])
    with pytest.raises(ValueError, match=f"label '{label}' cannot be read"):
        build(DATASETS.build(dataset_cfg))


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(switch_epoch=-1), ValueError, 'switch_epoch must be an int >= 0, got -1'),
        (dict(switch_epoch=1.5), ValueError, r'switch_epoch must be an int >= 0, got 1\.5'),
        (dict(shuffle=False), ValueError, 'shuffle must be True, got False'),
    ],
)
def test_wrong_arguments_are_named(dataset, settings, error, message):
    with pytest.raises(error, match=message):
        build(dataset, **settings)


def test_another_dataset_is_refused(dataset):
    with pytest.raises(TypeError, match='or a ConcatDataset of two, got CityscapesDataset'):
        build(dataset.datasets[0])


def test_without_mixed_epochs_no_label_is_read(dataset, monkeypatch):
    monkeypatch.setattr(auto_labelled_sampler, 'pixel_counts', None)
    assert max(epoch_of(build(dataset, switch_epoch=0), 0)) < NUM_FINE


class Recorder(BaseModel):
    """A model of one parameter that notes which images it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, inputs, data_samples, mode):
        self.seen += [Path(sample.img_path).name for sample in data_samples]
        return dict(loss=self.weight.square())


def train(dataset_cfg, work_dir, epochs, resume):
    model = Recorder()
    Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=1,
            persistent_workers=True,
            drop_last=True,
            sampler=dict(type='mmseg_cpg.AutoLabelledSampler', switch_epoch=2),
            dataset={**dataset_cfg, 'type': 'mmseg_cpg.AutoLabelledCityscapesDataset'},
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
        default_hooks=dict(logger=None, checkpoint=dict(type='CheckpointHook', interval=1)),
        default_scope='mmseg',
        randomness=dict(seed=5),
        experiment_name=f'{work_dir.name}{epochs}{resume}',
        resume=resume,
    ).train()
    return model.seen


def test_training_mixes_switches_and_resumes(dataset_cfg, dataset, tmp_path, monkeypatch):
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)  # which the tools set
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')  # the checkpoints are this test's own
    seen = train(dataset_cfg, tmp_path, 1, False)
    seen += train(dataset_cfg, tmp_path, 4, True)

    sampler = build(dataset, switch_epoch=2)
    expected = [epoch_of(sampler, epoch)[: NUM_FINE // 4 * 4] for epoch in range(4)]
    names = [Path(dataset.get_data_info(index)['img_path']).name for index in np.concatenate(expected)]
    assert seen == names
    assert [max(indices) >= NUM_FINE for indices in expected] == [True, True, False, False]


def draw_in_process(rank, folder, dataset_cfg):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    init_default_scope('mmseg')
    sampler = AutoLabelledSampler(DATASETS.build(dataset_cfg), SWITCH_EPOCH)
    np.save(Path(folder, f'{rank}.npy'), [epoch_of(sampler, epoch) for epoch in range(SWITCH_EPOCH)])
    torch.distributed.destroy_process_group()


def test_two_processes_share_an_epoch(own_tree, tmp_path):
    _, dataset_cfg = own_tree
    arguments = (str(tmp_path), dataset_cfg)
    torch.multiprocessing.start_processes(draw_in_process, arguments, nprocs=2, start_method='fork')
    first, second = (np.load(tmp_path / f'{rank}.npy') for rank in range(2))
    for drawn in np.concatenate([first, second], axis=1):
        assert len(np.unique(drawn)) == 22
        assert (drawn >= NUM_FINE).sum() == 11
