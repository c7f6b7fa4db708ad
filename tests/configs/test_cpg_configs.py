"""Every config under configs/cpg against the paper's recipe, written here a second time."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmseg.registry import MODELS

import mmseg_cpg
from tests.configs import reading
from tests.configs.reading import CPG, decode_heads, header_of, plain

FOLDER = CPG[0].parent
NAMES = [path.stem for path in CPG]
README = (FOLDER / 'README.md').read_text(encoding='utf-8')
VARIANTS = [name for name in NAMES if not name.endswith('_baseline')]
CPG_VARIANTS = [name for name in VARIANTS if not name.endswith('_bce_rmi')]

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
    ),
    'ocrnet_hr48': dict(
        backbone='HRNet',
        heads=['FCNHead', 'OCRHead'],
        auxiliary=None,
        pretrained='open-mmlab://msra/hrnetv2_w48',
    ),
    'lraspp_m-v3': dict(
        backbone='MobileNetV3',
        heads=['LRASPPHead'],
        auxiliary=None,
        pretrained='open-mmlab://contrib/mobilenet_v3_large',
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
TABLE_2_MIOU = {None: '76.75', 3: '79.00', 5: '79.23', 7: '79.50'}  # DeepLabv3-R50 on Cityscapes
TABLE_4_MIOU = {None: '79.875', 3: '80.138', 5: '79.977', 7: '80.046'}  # the same with RMI
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
    """Return network, dataset, kernel size (None without CPG) and whether there is RMI of a config's name."""
    network, dataset, rmi, ksize = re.fullmatch(
        r'(.+)_(cityscapes|ade20k|cocostuff)(?:_baseline|(_bce_rmi)?(?:_cpg([357]))?)', name
    ).groups()
    return network, dataset, ksize and int(ksize), rmi is not None


def miou(name):
    """Return the paper's mIoU of a config's experiment, None where it does not state the kernel of its number."""
    network, dataset, ksize, rmi = parse_name(name)
    if (network, dataset) == ('deeplabv3_r50', 'cityscapes'):
        return (TABLE_4_MIOU if rmi else TABLE_2_MIOU)[ksize]
    return None if ksize else TABLE_3_MIOU[network, dataset][0]


def load(name):
    """Return a copy of a config, which a test may change."""
    return reading.load(FOLDER / f'{name}.py')


def cfg_options(header):
    """Return the ``--cfg-options`` assignment that a header names, as ``{key: float}``."""
    key, value = re.search(r'--cfg-options (\S+)=([\d.]*\d)', header).groups()
    return {key: float(value)}


def test_folder_has_every_config_and_no_other():
    kinds = ('baseline', 'cpg3', 'cpg5', 'cpg7')
    table_2_and_3 = {f'{network}_{dataset}_{kind}' for network, dataset in SCHEDULES for kind in kinds}
    table_4 = {f'deeplabv3_r50_cityscapes_bce_rmi{kind}' for kind in ('', '_cpg3', '_cpg5', '_cpg7')}
    assert set(NAMES) == table_2_and_3 | table_4
    assert len(NAMES) == 40


@pytest.mark.parametrize('name', NAMES)
def test_model_follows_recipe(name):
    network, dataset, ksize, rmi = parse_name(name)
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
    final_loss = [dict(main_loss, loss_weight=1.0)]
    if ksize:
        cpg = dict(type='mmseg_cpg.CPGLoss', ksize=ksize, loss_weight=LAMBDAS[ksize], ignore_policy='as_background')
        final_loss.append(cpg)
    if rmi:
        final_loss.append(dict(type='mmseg_cpg.RMILoss', preset='official', loss_weight=0.5))
    assert plain(heads[-1].loss_decode) == (final_loss if len(final_loss) > 1 else final_loss[0])
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
    network, dataset, *_ = parse_name(name)
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
    network, dataset, *_ = parse_name(name)
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
    assert cfg.default_hooks.batch_size == dict(type='CheckBatchSizeHook')
    assert cfg.log_processor.by_epoch is True
    assert cfg.custom_imports.imports == ['mmseg_cpg']


@pytest.mark.parametrize('name', NAMES)
def test_learning_rate_decays_as_in_the_paper(name):
    network, dataset, *_ = parse_name(name)
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
def test_variant_differs_from_baseline_in_the_added_terms_alone(name):
    network, dataset, *_ = parse_name(name)
    variant, baseline = load(name), load(f'{network}_{dataset}_baseline')
    head = decode_heads(variant.model)[-1]
    head.loss_decode, *added = head.loss_decode
    assert {loss.type for loss in added} <= {'mmseg_cpg.CPGLoss', 'mmseg_cpg.RMILoss'}
    assert variant.to_dict() == baseline.to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_header_names_command_and_paper_cell(name):
    network, dataset, _, rmi = parse_name(name)
    total_batch, gpus, _, _ = SCHEDULES[network, dataset]
    header = header_of(FOLDER / f'{name}.py')
    if miou(name) is None:
        assert 'in Table 3 of the paper, which does not state its kernels' in header
        assert 'mIoU' not in header
    else:
        assert f'{miou(name)} mIoU in the paper' in header
    assert f'{gpus} GPUs x {total_batch // gpus} image' in header
    assert f'total batch of {total_batch}:' in header
    assert f'tools/dist_train.sh configs/cpg/{name}.py {gpus} ' in header
    assert 'Differs from the paper: ' in header
    assert ('no auto-labeled images' in header) == (dataset == 'cityscapes')
    assert ('RMI without the BCE that the official code adds' in header) == rmi


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('deeplabv3_r50')])
def test_header_states_the_number_of_parameters(name):
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(load(name).model)
    parameters_m = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert f'{parameters_m:.1f} M parameters (paper: 42.3 M)' in header_of(FOLDER / f'{name}.py')


@pytest.mark.parametrize('name', CPG_VARIANTS)
def test_header_cfg_options_set_lambda_of_table_2(name):
    _, _, ksize, _ = parse_name(name)
    header = header_of(FOLDER / f'{name}.py')
    assert f'lambda is {LAMBDAS[ksize]}' in header
    cfg = load(name)
    cfg.merge_from_dict(cfg_options(header))
    assert decode_heads(cfg.model)[-1].loss_decode[1].loss_weight == TABLE_2_LAMBDAS[ksize]
    decode_heads(cfg.model)[-1].loss_decode[1].loss_weight = LAMBDAS[ksize]
    assert cfg.to_dict() == load(name).to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_readme_lists_config(name):
    network, dataset, ksize, rmi = parse_name(name)
    total_batch, gpus, epochs, _ = SCHEDULES[network, dataset]
    crop = '{}x{}'.format(*DATASETS[dataset]['crop_size'])
    loss = ('BCE' if DATASETS[dataset]['use_sigmoid'] else 'CE') + ' + RMI' * rmi + (f' + CPG{ksize}' if ksize else '')
    columns = [
        crop,
        epochs,
        f'{gpus} × {total_batch // gpus}',
        loss,
        miou(name) or 'not stated',
        f'[{name}]({name}.py)',
    ]
    assert ' | '.join(map(str, columns)) in README


def test_readme_has_the_cells_of_table_3_whose_kernel_is_not_stated():
    for dataset in DATASETS:
        cells = [
            f'{method} {TABLE_3_MIOU[network, dataset][1]}'
            for network, method in [
                ('deeplabv3_r50', 'DeepLabv3'),
                ('ocrnet_hr48', 'OCRNet'),
                ('lraspp_m-v3', 'LRASPP'),
            ]
            if (network, dataset) != ('deeplabv3_r50', 'cityscapes')
        ]
        assert f'Table 3 has, for an unstated kernel size: {", ".join(cells)}.' in README


def test_snippet_of_the_guide_adds_the_loss_to_a_stock_cascade(tmp_path):
    guide = (FOLDER.parents[1] / 'docs/user_guides/cpg_loss.md').read_text('utf-8')
    snippet = re.search(r'```python\n(_base_ = .mmseg::.*?)```', guide, re.DOTALL).group(1)
    (tmp_path / 'mine.py').write_text(snippet, encoding='utf-8')
    (tmp_path / 'stock.py').write_text(snippet.splitlines()[0], encoding='utf-8')
    mine, stock = Config.fromfile(tmp_path / 'mine.py'), Config.fromfile(tmp_path / 'stock.py')

    mine.model.decode_head[-1].loss_decode, cpg = mine.model.decode_head[-1].loss_decode
    assert plain(mine.to_dict()) == plain(stock.to_dict())
    assert cpg == dict(type='mmseg_cpg.CPGLoss', ksize=3, loss_weight=1.0)
    assert type(MODELS.build(cpg)) is mmseg_cpg.CPGLoss
