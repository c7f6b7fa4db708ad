"""precompute_boundaries, as tools/train.py and a config call it: configs here, stock ones, wrapped datasets."""

import re
from copy import deepcopy

import pytest
from mmengine.config import Config, ConfigDict
from mmseg.registry import TRANSFORMS

from mmseg_cpg import BoundaryDistanceFromLabel, BoundaryMaskFromLabel, CPGLoss
from mmseg_cpg.precompute import precompute_boundaries, require_boundary_target_hook
from tests.configs.reading import CONFIGS, CPG, CPG_STOCK, load

PATHS = [path for path in [*CPG, *CPG_STOCK] if 'cpg' in path.stem]
GUIDE = (CONFIGS.parent / 'docs' / 'user_guides' / 'load_time_targets.md').read_text(encoding='utf-8')
HOOK = dict(type='mmseg_cpg.BoundaryTargetHook')
PACK = dict(type='PackSegInputs')
CPG_LOSS = dict(type='mmseg_cpg.CPGLoss')
ABL_LOSS = dict(type='mmseg_cpg.ActiveBoundaryLoss')


def tiny(loss=CPG_LOSS, pipeline=(PACK,), **head):
    return Config(
        dict(
            model=dict(decode_head=dict(loss_decode=loss, **head), data_preprocessor=dict(size=(8, 16))),
            train_dataloader=dict(dataset=dict(pipeline=list(pipeline))),
        )
    )


def transform_of(cfg):
    precompute_boundaries(cfg)
    pack, transform = cfg.train_dataloader.dataset.pipeline[-2:]
    assert pack.type == 'PackSegInputs'
    assert isinstance(TRANSFORMS.build(transform), BoundaryMaskFromLabel)
    return transform


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_every_config_here(path):
    cfg = load(path)
    before = deepcopy(cfg)
    transform = transform_of(cfg)
    assert transform == dict(
        type='mmseg_cpg.BoundaryMaskFromLabel',
        ksize=[int(re.search(r'_cpg(\d)', path.stem)[1])],
        ignore_index=255,
        ignore_policy='as_background' if path in CPG else 'exclude',
        pad_size=cfg.crop_size,
        seg_pad_val=255,
    )
    assert cfg.pop('custom_hooks') == [*before.pop('custom_hooks', []), HOOK]
    cfg.train_dataloader.dataset.pipeline = cfg.train_dataloader.dataset.pipeline[:-1]
    assert cfg.to_dict() == before.to_dict()


@pytest.mark.parametrize('path', [path for path in PATHS if path in CPG], ids=lambda path: path.stem)
def test_three_lines_in_a_config_are_the_switch_too(path, tmp_path):
    snippet = re.search(r'```python\n(_base_ = [^`]*precompute_boundaries\(_base_\)\n)```', GUIDE)[1]
    mine = tmp_path / 'mine.py'
    mine.write_text(snippet.replace('./my_config.py', str(path)))
    switched = load(path)
    precompute_boundaries(switched)
    assert Config.fromfile(mine).to_dict() == switched.to_dict()


def test_stock_config_with_losses_of_several_sizes(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmseg::ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py'\n"
        'model = _base_.model\n'
        "model.decode_head[0].loss_decode = dict(type='CPGLoss', ksize=7)\n"
        "model.decode_head[1].loss_decode = [dict(type='mmseg_cpg.CPGLoss'), dict(type='CPGLoss', ksize=7)]\n"
        "custom_hooks = [dict(type='EMAHook')]\n"
    )
    cfg = Config.fromfile(tmp_path / 'mine.py')
    val_pipeline = deepcopy(cfg.val_dataloader.dataset.pipeline)
    transform = transform_of(cfg)
    assert (transform.ksize, transform.ignore_policy, transform.pad_size) == ([3, 7], 'exclude', (512, 1024))
    assert cfg.custom_hooks == [dict(type='EMAHook'), HOOK]
    assert cfg.val_dataloader.dataset.pipeline == val_pipeline
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()


def test_reads_ignore_index_and_padding():
    cfg = tiny(ignore_index=9)
    cfg.model.data_preprocessor.seg_pad_val = 9
    transform = transform_of(cfg)
    assert (transform.ignore_index, transform.seg_pad_val, transform.pad_size) == (9, 9, (8, 16))
    cfg = tiny(loss=dict(type=CPGLoss, ksize=5))
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.data_preprocessor.size = (4, 4)
    transform = transform_of(cfg)
    assert (transform.ksize, transform.pad_size) == ([5], (4, 4))


def test_reads_the_divisor_of_the_padded_size():
    cfg = tiny()
    cfg.model.data_preprocessor.size = None
    cfg.model.data_preprocessor.size_divisor = 32
    transform = transform_of(cfg)
    assert (transform.pad_size, transform.size_divisor) == (None, 32)


def test_wrapped_and_shared_pipelines():
    shared = [dict(type='LoadAnnotations'), PACK]
    mosaic = dict(type='MultiImageMixDataset', dataset=dict(pipeline=shared[:1]), pipeline=shared)
    cfg = tiny()
    cfg.train_dataloader.dataset = ConfigDict(type='ConcatDataset', datasets=[dict(pipeline=shared), mosaic])
    cfg.val_dataloader = ConfigDict(dataset=dict(pipeline=cfg.train_dataloader.dataset.datasets[0].pipeline))
    precompute_boundaries(cfg)
    first, second = cfg.train_dataloader.dataset.datasets
    for pipeline in (first.pipeline, second.pipeline):
        assert [step.type for step in pipeline] == [
            'LoadAnnotations',
            'PackSegInputs',
            'mmseg_cpg.BoundaryMaskFromLabel',
        ]
    assert second.dataset.pipeline == shared[:1]
    assert cfg.val_dataloader.dataset.pipeline == shared


def test_what_a_config_has_stays():
    own = dict(type='BoundaryMaskFromLabel', ksize=[3, 5])
    cfg = tiny(pipeline=[PACK, own])
    cfg.custom_hooks = [dict(type='BoundaryTargetHook')]
    before = deepcopy(cfg)
    precompute_boundaries(cfg)
    assert cfg.to_dict() == before.to_dict()


def test_active_boundary_loss():
    cfg = tiny(loss=[ABL_LOSS, CPG_LOSS], ignore_index=9)
    cfg.model.data_preprocessor.seg_pad_val = 9
    precompute_boundaries(cfg)
    _, distances, masks = cfg.train_dataloader.dataset.pipeline
    assert masks.type == 'mmseg_cpg.BoundaryMaskFromLabel'
    assert distances == dict(
        type='mmseg_cpg.BoundaryDistanceFromLabel', ignore_index=9, pad_size=(8, 16), seg_pad_val=9
    )
    assert isinstance(TRANSFORMS.build(distances), BoundaryDistanceFromLabel)
    assert cfg.custom_hooks == [HOOK]
    before = deepcopy(cfg)
    precompute_boundaries(cfg)
    assert cfg.to_dict() == before.to_dict()


def test_losses_that_ignore_targets_get_no_transform():
    official, dense = dict(ABL_LOSS, preset='official'), dict(CPG_LOSS, implementation='dense', ksize=7)
    cfg = tiny(loss=[official, dense, CPG_LOSS])
    assert transform_of(cfg).ksize == [3]
    assert len(cfg.train_dataloader.dataset.pipeline) == 2
    triton = dict(CPG_LOSS, implementation='triton')
    fused = dict(type='CrossEntropyCPGLoss', cross_entropy=dict(type='CrossEntropyLoss'), cpg=triton)
    with pytest.raises(ValueError, match='needs one of the losses'):
        precompute_boundaries(tiny(loss=[official, dense, fused]))


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (tiny(loss=dict(type='CrossEntropyLoss')), 'needs one of the losses ActiveBoundaryLoss, CPGLoss'),
        (
            Config(dict(model=dict(heads=[dict(ignore_index=i, loss_decode=ABL_LOSS) for i in (9, 255)]))),
            'needs one ignore_index in all Active Boundary losses, got 9, 255',
        ),
        (
            tiny(loss=[CPG_LOSS, dict(CPG_LOSS, ignore_policy='as_background')]),
            r"\('as_background', 255\), \('exclude', 255\)",
        ),
        (tiny(pipeline=[dict(type='LoadAnnotations')]), 'needs PackSegInputs'),
    ],
)
def test_configs_it_is_not_for(cfg, message):
    with pytest.raises(ValueError, match=message):
        precompute_boundaries(cfg)


@pytest.mark.parametrize('name', ['BoundaryMaskFromLabel', 'BoundaryDistanceFromLabel'])
def test_boundaries_without_the_hook_are_refused(name):
    transform, hook = dict(type=f'mmseg_cpg.{name}'), dict(type='BoundaryTargetHook')
    pipeline = [dict(type='PackSegInputs'), transform]
    cfg = Config(dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)), custom_hooks=[dict(type='EMAHook')]))
    with pytest.raises(ValueError, match='no BoundaryTargetHook passes its result to the losses'):
        require_boundary_target_hook(cfg)
    cfg.custom_hooks.append(hook)
    require_boundary_target_hook(cfg)
    cfg.custom_hooks = None
    cfg.default_hooks = dict(boundaries=hook)
    require_boundary_target_hook(cfg)
