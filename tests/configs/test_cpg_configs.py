"""Every config under configs/cpg against the paper's recipe, written here a second time.

The tables below hold all cells of the paper, so that a config added to the folder is checked without a change here.
"""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_cpg

FOLDER = Path(__file__).parents[2] / 'configs' / 'cpg'
NAMES = sorted(path.stem for path in FOLDER.glob('*.py'))
README = (FOLDER / 'README.md').read_text(encoding='utf-8')
VARIANTS = [name for name in NAMES if not name.endswith('_baseline')]

DATASETS = {
    'cityscapes': dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        num_classes=19,
        crop_size=(1024, 2048),
        scale=(2048, 1024),
        use_sigmoid=True,
        load_annotations=dict(type='LoadAnnotations'),
    ),
    'ade20k': dict(
        type='ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        num_classes=150,
        crop_size=(520, 520),
        scale=(2048, 512),
        use_sigmoid=False,
        load_annotations=dict(type='LoadAnnotations', reduce_zero_label=True),
    ),
    'cocostuff': dict(
        type='COCOStuffDataset',
        data_root='data/coco_stuff10k',
        num_classes=171,
        crop_size=(520, 520),
        scale=(2048, 512),
        use_sigmoid=False,
        load_annotations=dict(type='LoadAnnotations', reduce_zero_label=True),
    ),
}
MODELS_USED = {
    'deeplabv3_r50': dict(
        backbone='ResNetV1c',
        heads=['ASPPHead'],
        auxiliary='FCNHead',
        pretrained='open-mmlab://resnet50_v1c',
        tiny_crop_px=64,
    ),
    'ocrnet_hr48': dict(
        backbone='HRNet',
        heads=['FCNHead', 'OCRHead'],
        auxiliary=None,
        pretrained='open-mmlab://msra/hrnetv2_w48',
        tiny_crop_px=64,
    ),
    'lraspp_m-v3': dict(
        backbone='MobileNetV3',
        heads=['LRASPPHead'],
        auxiliary=None,
        pretrained='open-mmlab://contrib/mobilenet_v3_large',
        tiny_crop_px=392,  # its 49x49 pooling at stride 8
    ),
}
# (total batch, GPUs that divide it, epochs, learning rate)
SCHEDULES = {
    ('deeplabv3_r50', 'cityscapes'): (12, 4, 175, 0.01),
    ('deeplabv3_r50', 'ade20k'): (16, 8, 175, 0.01),
    ('deeplabv3_r50', 'cocostuff'): (16, 8, 175, 0.01),
    ('ocrnet_hr48', 'cityscapes'): (8, 8, 175, 0.01),
    ('ocrnet_hr48', 'ade20k'): (16, 8, 175, 0.01),
    ('ocrnet_hr48', 'cocostuff'): (16, 8, 110, 0.001),
    ('lraspp_m-v3', 'cityscapes'): (16, 8, 200, 0.014),
    ('lraspp_m-v3', 'ade20k'): (32, 8, 175, 0.01),
    ('lraspp_m-v3', 'cocostuff'): (32, 8, 175, 0.01),
}
LAMBDAS = {3: 1.0, 5: 2.0, 7: 1.5}
TABLE_2_LAMBDAS = {3: 1.0, 5: 8.0, 7: 5.0}
TABLE_2_MIOU = {3: '79.00', 5: '79.23', 7: '79.50'}  # DeepLabv3-R50 on Cityscapes
TABLE_3_MIOU = {
    ('deeplabv3_r50', 'cityscapes'): ('76.75', '79.00'),
    ('deeplabv3_r50', 'ade20k'): ('40.18', '41.25'),
    ('deeplabv3_r50', 'cocostuff'): ('32.95', '33.50'),
    ('ocrnet_hr48', 'cityscapes'): ('81.56', '81.90'),
    ('ocrnet_hr48', 'ade20k'): ('44.76', '47.66'),
    ('ocrnet_hr48', 'cocostuff'): ('39.79', '40.71'),
    ('lraspp_m-v3', 'cityscapes'): ('72.26', '73.76'),
    ('lraspp_m-v3', 'ade20k'): ('33.59', '35.11'),
    ('lraspp_m-v3', 'cocostuff'): ('29.25', '29.45'),
}


def parse_name(name):
    """Return network, dataset and kernel size (None for a baseline) of a config's name."""
    network, dataset, ksize = re.fullmatch(r'(.+)_(cityscapes|ade20k|cocostuff)_(?:baseline|cpg([357]))', name).groups()
    return network, dataset, ksize and int(ksize)


read = cache(Config.fromfile)


def load(name):
    """Return a copy of a config, which a test may change."""
    return deepcopy(read(FOLDER / f'{name}.py'))


def plain(value):
    """Return a config value without the scope marks that ``mmseg::`` inheritance leaves."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def decode_heads(model):
    """Return the decode heads, the final one last."""
    return model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]


def header_of(path):
    """Return the comment lines a config starts with, joined."""
    lines = path.read_text(encoding='utf-8').splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith('#'))
    return ' '.join(line[1:].strip() for line in lines[:end])


def cfg_options(header):
    """Return the ``--cfg-options`` assignment that a header names, as ``{key: float}``."""
    key, value = re.search(r'--cfg-options (\S+)=([\d.]*\d)', header).groups()
    return {key: float(value)}


def test_folder_covers_all_networks_datasets_and_kernels():
    networks, datasets, ksizes = map(set, zip(*map(parse_name, NAMES), strict=True))
    assert (networks, datasets, ksizes) == (set(MODELS_USED), set(DATASETS), {None, 3, 5, 7})


@pytest.mark.parametrize('name', NAMES)
def test_model_follows_recipe(name):
    network, dataset, ksize = parse_name(name)
    expected, data = MODELS_USED[network], DATASETS[dataset]
    model = load(name).model
    heads = decode_heads(model)
    auxiliary = model.get('auxiliary_head')

    assert model.pretrained == expected['pretrained']
    assert model.backbone.type == expected['backbone']
    assert [head.type for head in heads] == expected['heads']
    assert (auxiliary and auxiliary.type) == expected['auxiliary']
    assert model.data_preprocessor.size == data['crop_size']

    main_loss = dict(type='CrossEntropyLoss', use_sigmoid=data['use_sigmoid'], avg_non_ignore=True)
    final_loss = dict(main_loss, loss_weight=1.0)
    if ksize:
        cpg = dict(type='CPGLoss', ksize=ksize, loss_weight=LAMBDAS[ksize], ignore_policy='as_background')
        final_loss = [final_loss, cpg]
    assert plain(heads[-1].loss_decode) == final_loss
    for head in [*heads[:-1], *([auxiliary] if auxiliary else [])]:
        assert plain(head.loss_decode) == dict(main_loss, loss_weight=0.4)
        assert head.num_classes == data['num_classes']
    assert heads[-1].num_classes == data['num_classes']


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('ocrnet_hr48')])
def test_hrnet_has_w48_widths(name):
    model = load(name).model
    widths = [48, 96, 192, 384]
    for stage in (2, 3, 4):
        assert list(model.backbone.extra[f'stage{stage}'].num_channels) == widths[:stage]
    fcn, ocr = model.decode_head
    assert (fcn.in_channels, fcn.channels) == (widths, 720)
    assert (ocr.in_channels, ocr.channels) == (widths, 512)


@pytest.mark.parametrize('name', NAMES)
def test_data_follows_recipe(name):
    network, dataset, _ = parse_name(name)
    expected = DATASETS[dataset]
    total_batch, gpus, _, _ = SCHEDULES[network, dataset]
    cfg = load(name)

    loader = cfg.train_dataloader
    assert loader.batch_size * gpus == total_batch
    assert plain(loader.sampler) == dict(type='DefaultSampler', shuffle=True)
    assert loader.drop_last is True
    assert (loader.dataset.type, loader.dataset.data_root) == (expected['type'], expected['data_root'])
    augmentation = [
        dict(type='LoadImageFromFile'),
        expected['load_annotations'],
        dict(type='RandomResize', scale=expected['scale'], ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=expected['crop_size'], cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    ]
    assert plain(loader.dataset.pipeline) == augmentation
    assert plain(cfg.train_pipeline) == augmentation
    assert cfg.crop_size == cfg.data_preprocessor.size == expected['crop_size']

    no_augmentation = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=expected['scale'], keep_ratio=True),
        expected['load_annotations'],
        dict(type='PackSegInputs'),
    ]
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert plain(loader.dataset.pipeline) == no_augmentation
        assert (loader.dataset.type, loader.dataset.data_root) == (expected['type'], expected['data_root'])
    assert plain(cfg.val_evaluator) == plain(cfg.test_evaluator) == dict(type='IoUMetric', iou_metrics=['mIoU'])


@pytest.mark.parametrize('name', NAMES)
def test_schedule_follows_recipe(name):
    network, dataset, _ = parse_name(name)
    total_batch, _, epochs, lr = SCHEDULES[network, dataset]
    cfg = load(name)

    assert (cfg.train_cfg.type, cfg.train_cfg.max_epochs) == ('EpochBasedTrainLoop', epochs)
    assert cfg.optim_wrapper == dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4), clip_grad=None
    )
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=total_batch)
    assert cfg.default_hooks.checkpoint.by_epoch is True
    assert cfg.default_hooks.checkpoint.save_best == 'mIoU'
    assert cfg.default_hooks.logger.log_metric_by_epoch is True
    assert cfg.log_processor.by_epoch is True
    assert cfg.custom_imports.imports == ['mmseg_cpg']


@pytest.mark.parametrize('name', NAMES)
def test_learning_rate_decays_as_in_the_paper(name):
    network, dataset, _ = parse_name(name)
    _, _, epochs, lr = SCHEDULES[network, dataset]
    cfg = load(name)
    init_default_scope('mmseg')
    optimizer = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper).optimizer
    scheduler = PARAM_SCHEDULERS.build(cfg.param_scheduler, default_args=dict(optimizer=optimizer))
    assert scheduler.by_epoch
    for epoch in range(epochs):
        assert optimizer.param_groups[0]['lr'] == pytest.approx(lr * (1 - epoch / epochs) ** 2, rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize('name', VARIANTS)
def test_variant_differs_from_baseline_in_the_cpg_term_alone(name):
    variant, baseline = load(name), load(re.sub(r'cpg\d$', 'baseline', name))
    head = decode_heads(variant.model)[-1]
    head.loss_decode, cpg = head.loss_decode
    assert cpg.type == 'CPGLoss'
    assert variant.to_dict() == baseline.to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_dumped_config_reloads_unchanged(name):
    cfg = load(name)
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_header_names_command_and_paper_cell(name):
    network, dataset, ksize = parse_name(name)
    total_batch, gpus, _, _ = SCHEDULES[network, dataset]
    header = header_of(FOLDER / f'{name}.py')
    baseline_miou, cpg_miou = TABLE_3_MIOU[network, dataset]
    if (network, dataset) == ('deeplabv3_r50', 'cityscapes'):
        cpg_miou = TABLE_2_MIOU.get(ksize)
    assert f'{cpg_miou if ksize else baseline_miou} mIoU' in header
    assert f'{gpus} GPUs x {total_batch // gpus} images' in header
    assert f'total batch of {total_batch}:' in header
    assert f'tools/dist_train.sh configs/cpg/{name}.py {gpus} ' in header
    assert 'Differs from the paper: ' in header


@pytest.mark.parametrize('name', VARIANTS)
def test_header_cfg_options_set_lambda_of_table_2(name):
    _, _, ksize = parse_name(name)
    header = header_of(FOLDER / f'{name}.py')
    assert f'lambda is {LAMBDAS[ksize]}' in header
    cfg = load(name)
    cfg.merge_from_dict(cfg_options(header))
    assert decode_heads(cfg.model)[-1].loss_decode[1].loss_weight == TABLE_2_LAMBDAS[ksize]
    decode_heads(cfg.model)[-1].loss_decode[1].loss_weight = LAMBDAS[ksize]
    assert cfg.to_dict() == load(name).to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_readme_lists_config(name):
    assert f'[{name}]({name}.py)' in README


def test_readme_snippet_adds_the_loss_to_a_stock_config(tmp_path):
    snippet = re.search(r'```python\n(.*?)```', README, re.DOTALL).group(1)
    (tmp_path / 'mine.py').write_text(snippet, encoding='utf-8')
    (tmp_path / 'stock.py').write_text(snippet.splitlines()[0], encoding='utf-8')
    mine, stock = Config.fromfile(tmp_path / 'mine.py'), Config.fromfile(tmp_path / 'stock.py')

    mine.model.decode_head.loss_decode, cpg = mine.model.decode_head.loss_decode
    assert plain(mine.to_dict()) == plain(stock.to_dict())
    assert cpg == dict(type='mmseg_cpg.CPGLoss', ksize=3, loss_weight=1.0)
    assert type(MODELS.build(cpg)) is mmseg_cpg.CPGLoss


def make_batch(num_classes, size):
    """Return two random images, each with a label of four blocks and a void strip."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for _ in range(2):
        blocks = torch.randperm(num_classes, generator=generator)[:4].reshape(1, 2, 2)
        label = blocks.repeat_interleave(size // 2, 1).repeat_interleave(size // 2, 2)
        label[:, :4] = 255
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=label)))
        images.append(torch.randint(256, (3, size, size), dtype=torch.uint8, generator=generator))
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('name', VARIANTS)
def test_variant_trains(name):
    network, dataset, _ = parse_name(name)
    cfg = load(name)
    size = MODELS_USED[network]['tiny_crop_px']
    cfg.model.pretrained = None
    cfg.model.data_preprocessor.size = (size, size)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    if network == 'deeplabv3_r50':
        parameters_m = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        assert f'{parameters_m:.1f} M parameters (paper: 42.3 M)' in header_of(FOLDER / f'{name}.py')

    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = make_batch(DATASETS[dataset]['num_classes'], size)
    for _ in range(2):
        losses = {key: value.item() for key, value in model.train_step(batch, optim_wrapper).items()}
    final = 'decode_1' if network == 'ocrnet_hr48' else 'decode'
    assert [key for key in losses if 'cpg' in key] == [f'{final}.loss_cpg']
    assert losses[f'{final}.loss_cpg'] > 0
    assert losses['loss'] == pytest.approx(sum(losses[key] for key in losses if 'loss_' in key), rel=1e-5)
    for key, parameter in model.named_parameters():
        assert parameter.isfinite().all(), key
        assert not parameter.equal(before[key]), f'{key} did not train'
