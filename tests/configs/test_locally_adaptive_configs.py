"""Every config under configs/locally_adaptive: the paper's recipe, and the loss of each the only difference."""

import re

import pytest
from mmengine.config import Config
from mmseg.registry import MODELS

from tests.configs.reading import LOCALLY_ADAPTIVE, header_of, load, plain

FOLDER = LOCALLY_ADAPTIVE[0].parent
README = (FOLDER / 'README.md').read_text(encoding='utf-8')
BASELINE = FOLDER / 'deeplabv3_r101_voc12aug_baseline.py'
# mIoU of Table 2 by window; None is cross-entropy.
TABLE_2 = {None: 74.6, 3: 75.7, 5: 76.1, 7: 75.1}


def ksize_of(path):
    match = re.search(r'_lad(\d)$', path.stem)
    return int(match[1]) if match else None


def test_folder_has_every_config_and_no_other():
    assert {ksize_of(path) for path in LOCALLY_ADAPTIVE} == set(TABLE_2)
    assert len(LOCALLY_ADAPTIVE) == len(TABLE_2)


@pytest.mark.parametrize('path', LOCALLY_ADAPTIVE, ids=lambda path: path.stem)
def test_differs_from_baseline_in_the_loss_alone(path):
    cfg, baseline = load(path), load(BASELINE)
    loss = plain(cfg.model.decode_head.pop('loss_decode'))
    assert plain(baseline.model.decode_head.pop('loss_decode')) == dict(
        type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
    )
    if ksize_of(path):
        assert loss == dict(type='mmseg_cpg.LocallyAdaptiveLoss', ksize=ksize_of(path), loss_weight=1.0)
    assert plain(cfg.to_dict()) == plain(baseline.to_dict())


def test_recipe_is_that_of_the_paper():
    cfg = load(BASELINE)
    assert cfg.train_cfg.max_iters == 20000
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 2
    assert cfg.model.data_preprocessor.size == (321, 321)
    assert cfg.model.decode_head.num_classes == 21
    assert cfg.model.backbone.depth == 101
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=2.5e-4, momentum=0.9, weight_decay=5e-4)
    (schedule,) = cfg.param_scheduler
    assert (schedule.type, schedule.power, schedule.eta_min, schedule.end) == ('PolyLR', 0.9, 0, 20000)
    datasets = cfg.train_dataloader.dataset.datasets
    assert [dataset.ann_file for dataset in datasets] == [f'ImageSets/Segmentation/{s}.txt' for s in ('train', 'aug')]
    for dataset in datasets:
        steps = {step.type: step for step in dataset.pipeline}
        assert steps['RandomResize'].ratio_range == (0.5, 1.5)
        assert steps['RandomCrop'].crop_size == (321, 321)
        assert 'RandomFlip' in steps
        assert 'PhotoMetricDistortion' not in steps
    assert [step.type for step in cfg.test_dataloader.dataset.pipeline] == [
        'LoadImageFromFile',
        'Resize',
        'LoadAnnotations',
        'PackSegInputs',
    ]


@pytest.mark.parametrize('path', LOCALLY_ADAPTIVE, ids=lambda path: path.stem)
def test_header_and_readme_name_command_and_paper_cell(path):
    header, ksize = header_of(path), ksize_of(path)
    assert f'python tools/train.py configs/locally_adaptive/{path.name} ' in header
    assert f'DeepLabv2-R101 has {TABLE_2[ksize]} mIoU (Table 2)' in header
    assert ('Same deviations from the paper' if ksize else 'Differs from the paper') in header
    assert f'ksize {ksize} ' in header or ksize is None
    loss = f'LAD{ksize}' if ksize else 'CE'
    assert f'| 321x321 | 20000 | 1 × 2 | {loss} | {TABLE_2[ksize]} | [{path.stem}]({path.name}) |' in README


def test_readme_snippet_puts_the_loss_into_a_stock_config(tmp_path):
    (tmp_path / 'mine.py').write_text(re.search(r'```python\n(.*?)```', README, re.DOTALL)[1], encoding='utf-8')
    mine = Config.fromfile(tmp_path / 'mine.py')
    assert MODELS.build(mine.model.decode_head.loss_decode).ksize == 5
