"""Every config under configs/semeda against the stock config that it adds the SEMEDA loss to."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cpg.cli.edge_training import edge_network_config
from tests.configs.reading import SEMEDA, decode_heads, header_of, load, plain

STOCK = {'deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024': 'deeplabv3'}
README = (SEMEDA[0].parent / 'README.md').read_text(encoding='utf-8')


def test_folder_has_every_config_and_no_other():
    assert {path.stem.replace('_semeda', '') for path in SEMEDA} == STOCK.keys()


@pytest.mark.parametrize('path', SEMEDA, ids=lambda path: path.stem)
def test_only_the_semeda_term_is_added(path, tmp_path):
    name = path.stem.replace('_semeda', '')
    (tmp_path / 'stock.py').write_text(f"_base_ = 'mmseg::{STOCK[name]}/{name}.py'")
    stock, cfg = Config.fromfile(tmp_path / 'stock.py'), load(path)
    head = decode_heads(cfg.model)[-1]
    head.loss_decode, semeda = head.loss_decode
    assert plain(cfg.to_dict()) == plain(stock.to_dict())
    assert semeda.type == 'mmseg_cpg.SEMEDALoss'
    assert f'[{path.stem}]({path.name})' in README


@pytest.mark.parametrize('path', SEMEDA, ids=lambda path: path.stem)
def test_header_names_the_commands(path):
    header, config = header_of(path), f'configs/semeda/{path.name}'
    semeda = decode_heads(load(path).model)[-1].loss_decode[1]
    work_dir = Path(semeda.checkpoint).parent
    assert f'python tools/train_edge_network.py {config} \\ --work-dir {work_dir} ' in header
    assert f'tools/dist_train.sh {config} {re.search("_([0-9]+)xb", path.stem)[1]}' in header


@pytest.mark.parametrize('path', SEMEDA, ids=lambda path: path.stem)
def test_dumped_config_of_the_edge_network_reloads_unchanged(path):
    cfg = edge_network_config(load(path))
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()
