"""Every config under configs/semeda against the stock config that it adds the SEMEDA loss to."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_cpg.models.edge_network import EdgeNetwork, save_edge_network
from mmseg_cpg.utils.edge_training import edge_network_config
from tests.configs.reading import CONFIGS, decode_heads, header_of, load, plain
from tests.configs.test_training import data, shrink  # noqa: F401

SEMEDA = sorted(CONFIGS.glob('semeda/*.py'))
STOCK = {'deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024': 'deeplabv3'}
README = (CONFIGS / 'semeda' / 'README.md').read_text(encoding='utf-8')


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
def test_dumped_config_reloads_unchanged(path):
    for cfg in (load(path), edge_network_config(load(path))):
        assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('path', SEMEDA, ids=lambda path: path.stem)
def test_trains(path, data, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(data)
    cfg = shrink(load(path), tmp_path)
    head, semeda = cfg.model.decode_head, cfg.model.decode_head.loss_decode[1]
    Path(semeda.checkpoint).parent.mkdir(parents=True)
    torch.manual_seed(0)
    save_edge_network(EdgeNetwork(head.num_classes), semeda.checkpoint)
    runner = Runner.from_cfg(cfg)
    runner.train()
    history = runner.message_hub.log_scalars['train/decode.loss_semeda'].data[0]
    assert len(history) == 2
    assert (history > 0).all()
    assert torch.isfinite(torch.from_numpy(history)).all()
