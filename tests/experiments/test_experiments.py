"""What the configs here and MMSegmentation's own are taken for."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

from mmseg_cpg import fuse_losses, precompute_boundaries
from mmseg_cpg.config_nodes import losses_of
from mmseg_cpg.experiments import paper
from mmseg_cpg.experiments.experiments import Experiment, deviations, differences, identify, plain, training_part
from mmseg_cpg.experiments.records import fingerprint

NAME = re.compile(
    r'(deeplabv3_r50|ocrnet_hr48|lraspp_m-v3)_(cityscapes|ade20k|cocostuff)(?:_baseline|(_bce_rmi)?(?:_cpg(\d))?)'
)
CONFIGS = Path(__file__).parents[2] / 'configs' / 'cpg'
# Every third has each network, dataset and kernel several times, with and without RMI, if all 40 are there.
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))[::3]
CPG3 = 'deeplabv3_r50_cityscapes_cpg3'


@pytest.fixture(scope='module')
def cpg3():
    return Config.fromfile(CONFIGS / f'{CPG3}.py')


@pytest.mark.parametrize('name', NAMES)
def test_the_configs_here_are_the_cells_that_their_names_say(name):
    network, dataset, rmi, ksize = NAME.fullmatch(name).groups()
    networks = {'deeplabv3_r50': paper.DEEPLABV3, 'ocrnet_hr48': paper.OCRNET, 'lraspp_m-v3': paper.LRASPP}
    datasets = {'cityscapes': paper.CITYSCAPES, 'ade20k': paper.ADE20K, 'cocostuff': paper.COCO_STUFF}
    ksize = int(ksize or 0)
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    experiment = identify(cfg)
    weight = paper.LOSS_WEIGHTS.get(ksize, 0)
    assert experiment == Experiment(networks[network], datasets[dataset], ksize, weight, rmi is not None)
    num_gpus = cfg.auto_scale_lr.base_batch_size // cfg.train_dataloader.batch_size
    assert deviations(cfg, experiment, num_gpus) == []
    assert deviations(cfg, experiment, None) == []
    assert len(deviations(cfg, experiment, num_gpus + 1)) == 1


def test_a_stock_config_differs_from_the_recipe(tmp_path):
    base = 'mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024.py'
    (tmp_path / 'stock.py').write_text(f'_base_ = {base!r}')
    cfg = Config.fromfile(tmp_path / 'stock.py')
    experiment = identify(cfg)
    assert experiment == Experiment(paper.DEEPLABV3, paper.CITYSCAPES, 0, 0, rmi=False)
    assert deviations(cfg, experiment, 4) == [
        '80000 iters (recipe: 175 epochs)',
        'crop 512×1024 (recipe: 1024×2048)',
        'main loss CE (recipe: BCE)',
        'total batch 8 (recipe: 12)',
    ]


def test_other_deviations(cpg3):
    cfg = deepcopy(cpg3)
    cfg.optim_wrapper.optimizer.lr = 0.02
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.model.decode_head.loss_decode[1].pop('ignore_policy')
    cfg.train_dataloader.batch_size = 14
    cfg.model.decode_head.loss_decode.append(ConfigDict(type='RMILoss', preset='paper'))
    assert deviations(cfg, identify(cfg), 4) == [
        'lr 0.02 (recipe: 0.01)',
        'total batch 112 (recipe: 12)',
        'void policy exclude (recipe: as_background)',
        'RMI weight 1.0 (recipe: 0.5)',
        'RMI preset paper (recipe: official)',
    ]


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('loss_decode.1.loss_weight', 8, dict(ksize=3, loss_weight=8)),
        ('loss_decode.1.loss_weight', 0, dict(ksize=0, loss_weight=0)),
        ('loss_decode.1.type', 'mmseg_cpg.CPGLoss', dict(ksize=3, loss_weight=1)),
        ('loss_decode.1.type', 'RMILoss', dict(ksize=0, loss_weight=0, rmi=True)),
    ],
)
def test_losses(cpg3, key, value, expected):
    cfg = deepcopy(cpg3)
    cfg.merge_from_dict({f'model.decode_head.{key}': value})
    found = identify(cfg)._asdict()
    assert found == dict(network=paper.DEEPLABV3, dataset=paper.CITYSCAPES, rmi=False) | expected


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.backbone.depth': 101}, r'ResNetV1c \+ ASPPHead'),
        ({'model.decode_head.type': 'DepthwiseSeparableASPPHead'}, 'DepthwiseSeparableASPPHead'),
        ({'model.decode_head.loss_decode.0.type': 'DiceLoss'}, 'CPGLoss, DiceLoss'),
        ({'model.decode_head.loss_decode.0.type': 'CPGLoss'}, 'CPGLoss, CPGLoss'),
        ({'model.decode_head.loss_decode': dict(type='CPGLoss')}, 'no CrossEntropyLoss'),
        ({'model.auxiliary_head.loss_decode': dict(type='CPGLoss')}, 'outside the final head'),
        ({'val_dataloader.dataset.type': 'PascalVOCDataset'}, 'PascalVOCDataset'),
        (
            {'val_dataloader.dataset': dict(type='COCOStuffDataset', data_prefix=dict(img_path='images/val2017'))},
            'COCOStuffDataset, images/val2017',
        ),
        ({'val_dataloader': None}, 'no validation data'),
        ({'model.decode_head': None}, 'no CrossEntropyLoss'),
    ],
)
def test_what_the_paper_has_not(cpg3, changes, message):
    cfg = deepcopy(cpg3)
    for key, value in changes.items():
        *path, last = key.split('.')
        node = cfg
        for part in path:
            node = node[int(part)] if part.isdigit() else node[part]
        node[last] = ConfigDict(value) if isinstance(value, dict) else value
    with pytest.raises(ValueError, match=message):
        identify(cfg)


def test_training_part_ignores_seed_and_place_but_nothing_that_trains(cpg3):
    same, other = deepcopy(cpg3), deepcopy(cpg3)
    same.randomness = dict(seed=1)
    same.work_dir = 'elsewhere'
    same.train_dataloader.num_workers = 9
    same.custom_hooks = [dict(type='mmseg_cpg.BoundaryVisualizationHook', interval=1)]
    same.train_dataloader.dataset.data_root = '/elsewhere'
    assert training_part(same) == training_part(cpg3)
    other.optim_wrapper.optimizer.momentum = 0.8
    other.custom_hooks = [dict(type='EMAHook')]
    assert list(differences(training_part(cpg3), training_part(other))) == [
        'optim_wrapper.optimizer.momentum: 0.9, 0.8',
        "custom_hooks: [], [{'type': 'EMAHook'}]",
    ]


@pytest.mark.parametrize('name', [CPG3, 'deeplabv3_r50_cityscapes_bce_rmi_cpg5'])
def test_switches_that_leave_the_losses_unchanged_make_no_other_experiment(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    switched = deepcopy(cfg)
    fuse_losses(switched)
    precompute_boundaries(switched)
    switched.custom_hooks += [dict(type='mmseg_cpg.PeakMemoryHook'), dict(type='mmseg_cpg.CheckBatchSizeHook')]
    experiment = identify(cfg)
    assert identify(switched) == experiment
    assert deviations(switched, experiment, None) == []
    assert training_part(switched) == training_part(cfg)
    # They change what a record contains besides scores, time and memory.
    assert fingerprint(switched) != fingerprint(cfg)
    losses_of(switched.model.decode_head)[0].cpg.loss_weight = 9
    (difference,) = differences(training_part(cfg), training_part(switched))
    assert difference.endswith(f'loss_weight: {experiment.loss_weight}, 9')


def test_differences_in_lists_and_missing_keys():
    first = plain(dict(a=[1, dict(b=2)], c=(3, 4), d=1))
    assert list(differences(first, plain(dict(a=[1, dict(b=5)], c=[3, 4])))) == ['a.1.b: 2, 5', 'd: 1, None']
    assert list(differences(dict(a=[1]), dict(a=[1, 2]))) == ['a: [1], [1, 2]']
