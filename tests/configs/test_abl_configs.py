"""Every config under configs/abl: a whole stock config, two more losses, and what makes ABL's distances."""

import re
from pathlib import Path

import mmseg
import pytest
import yaml
from mmengine.config import Config

from mmseg_cpg import precompute_boundaries
from tests.configs.reading import ABL, header_of, load, plain

README = (ABL[0].parent / 'README.md').read_text(encoding='utf-8')
TRANSFORM = dict(type='mmseg_cpg.BoundaryDistanceFromLabel', pad_size=(512, 1024))


def test_folder_has_every_config_and_no_other():
    assert [path.stem for path in ABL] == ['deeplabv3_r50-d8_abl_4xb2-80k_cityscapes-512x1024']


@pytest.mark.parametrize('path', ABL, ids=lambda path: path.stem)
def test_only_the_losses_and_the_distances_are_added(path, tmp_path):
    (tmp_path / 'stock.py').write_text(f"_base_ = 'mmseg::deeplabv3/{path.stem.replace('_abl', '')}.py'")
    stock, cfg = Config.fromfile(tmp_path / 'stock.py'), load(path)
    head = cfg.model.decode_head
    head.loss_decode, lovasz, abl = head.loss_decode
    assert lovasz == dict(type='LovaszLoss', reduction='none', loss_weight=1.0)
    assert abl == dict(type='mmseg_cpg.ActiveBoundaryLoss', loss_weight=1.0)
    assert cfg.pop('custom_hooks') == [dict(type='mmseg_cpg.BoundaryTargetHook')]
    for owner, key in ((cfg, 'train_pipeline'), (cfg.train_dataloader.dataset, 'pipeline')):
        *owner[key], transform = owner[key]
        assert transform == TRANSFORM
    assert plain(cfg.to_dict()) == plain(stock.to_dict())


@pytest.mark.parametrize('path', ABL, ids=lambda path: path.stem)
def test_precomputed_already(path):
    cfg = load(path)
    precompute_boundaries(cfg)
    assert cfg.to_dict() == load(path).to_dict()


@pytest.mark.parametrize('path', ABL, ids=lambda path: path.stem)
def test_header_names_the_command(path):
    name = path.stem.replace('_abl', '')
    assert f"MMSegmentation's {name} with " in header_of(path)
    assert f'tools/dist_train.sh configs/abl/{path.name} {re.search("_([0-9]+)xb", name)[1]}' in header_of(path)
    assert f'[abl]({path.name})' in README


@pytest.mark.parametrize('path', ABL, ids=lambda path: path.stem)
def test_readme_has_the_numbers_of_the_model_zoo(path):
    name = path.stem.replace('_abl', '')
    metafile = Path(mmseg.__file__).parent / '.mim' / 'configs' / 'deeplabv3' / 'metafile.yaml'
    (model,) = (model for model in yaml.safe_load(metafile.read_text())['Models'] if model['Name'] == name)
    iterations = load(path).train_cfg.max_iters
    assert f'| {iterations} | {model["Results"]["Metrics"]["mIoU"]} | `deeplabv3/{name}.py` |' in README
