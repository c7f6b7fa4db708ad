"""Every config under configs/gradnet against the paper's text, and the README's table against its JSON file."""

import re
from functools import reduce
from operator import getitem

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules

from benchmarks import gradnet
from benchmarks.common import read_result
from tests.configs.reading import GRADNET, header_of, load

FOLDER = GRADNET[0].parent
README = (FOLDER / 'README.md').read_text(encoding='utf-8')
SCHEDULES = ('1xb8-24000e', '4xb4-160k')
CLASSES = {'ade20k': 150, 'cityscapes': 19}
IMAGES = {'ade20k': 20210, 'cityscapes': 2975}  # of the training set


def parse_name(path):
    return re.fullmatch(r'gradnet_(.+)_(.+)-500x500', path.stem).groups()


def test_folder_has_every_config_and_no_other():
    assert [parse_name(path) for path in GRADNET] == [(each, data) for each in SCHEDULES for data in CLASSES]


@pytest.mark.parametrize('path', GRADNET, ids=lambda path: path.stem)
def test_follows_the_paper(path):
    schedule, dataset = parse_name(path)
    cfg = load(path)
    (crop,) = (step.crop_size for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop')
    assert crop == cfg.crop_size == cfg.model.data_preprocessor.size == (500, 500)
    head = cfg.model.decode_head
    assert head.num_classes == CLASSES[dataset]
    assert head.loss_decode == dict(type='DiceLoss', use_sigmoid=False, naive_dice=True)
    optimizer = cfg.optim_wrapper.optimizer
    if schedule == '1xb8-24000e':
        assert (dict(optimizer), cfg.train_cfg.max_epochs) == (dict(type='Adam', lr=1e-6), 24000)
        assert 'param_scheduler' not in cfg
        iterations = 24000 * (IMAGES[dataset] // cfg.train_dataloader.batch_size)
        assert f'{iterations / 1e6:.1f} million iterations' in header_of(path)
    else:
        assert (dict(optimizer), cfg.train_cfg.max_iters) == (dict(type='Adam', lr=1e-3), 160000)
        assert [(each.type, each.end, each.eta_min) for each in cfg.param_scheduler] == [('PolyLR', 160000, 0.0)]
    gpus, images = re.match(r'(\d)xb(\d)', schedule).groups()
    assert cfg.train_dataloader.batch_size == int(images)
    assert cfg.auto_scale_lr.get('base_batch_size') == (None if gpus == '1' else int(gpus) * int(images))


@pytest.mark.parametrize('path', GRADNET, ids=lambda path: path.stem)
def test_model_and_optimizer_build(path):
    register_all_modules(init_default_scope=True)
    cfg = load(path)
    model = MODELS.build(cfg.model)
    # Conv16 and nothing else.
    assert {name: tuple(value.shape) for name, value in model.decode_head.named_parameters()} == {
        'conv_seg.weight': (cfg.model.decode_head.num_classes, 16, 1, 1),
        'conv_seg.bias': (cfg.model.decode_head.num_classes,),
    }
    assert build_optim_wrapper(model, cfg.optim_wrapper).get_lr()['lr'] == [cfg.optim_wrapper.optimizer.lr]


@pytest.mark.parametrize('path', GRADNET, ids=lambda path: path.stem)
def test_header_names_the_command(path):
    gpus = parse_name(path)[0][0]
    command = 'python tools/train.py {}' if gpus == '1' else f'tools/dist_train.sh {{}} {gpus}'
    assert command.format(f'configs/gradnet/{path.name}') in header_of(path)
    assert f'({path.name})' in README


@pytest.mark.parametrize('path', GRADNET[:2], ids=lambda path: path.stem)
def test_options_of_the_header_are_in_the_config(path):
    options = dict(re.findall(r'([\w.]+)=([\d.e-]+)', header_of(path)))
    assert options == {
        'optim_wrapper.optimizer.lr': '1e-3',
        'train_cfg.max_epochs': '200',
        'train_cfg.val_interval': '10',
    }
    cfg = load(path)
    before = {key: reduce(getitem, key.split('.'), cfg) for key in options}
    assert before == dict(zip(options, (1e-6, 24000, 100), strict=True))


def test_snippet_of_the_readme_builds(tmp_path):
    (snippet,) = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    (tmp_path / 'config.py').write_text(snippet)
    register_all_modules(init_default_scope=True)
    head = MODELS.build(Config.fromfile(tmp_path / 'config.py').model).decode_head
    assert [loss.loss_name for loss in head.loss_decode] == ['loss_dice', 'loss_cpg']


def test_readme_has_the_table_of_the_json_file():
    assert gradnet.markdown(read_result('gradnet')) in README
