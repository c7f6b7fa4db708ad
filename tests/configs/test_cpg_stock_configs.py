"""Every config under configs/cpg_stock: a whole stock config and one CPG term, nothing else."""

import re
from pathlib import Path

import mmseg
import pytest
import yaml
from mmengine.config import Config

from tests.configs.reading import CPG_STOCK, decode_heads, header_of, load, plain

README = (CPG_STOCK[0].parent / 'README.md').read_text(encoding='utf-8')
STOCK = {
    'deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024': 'deeplabv3',
    'deeplabv3_r50-d8_4xb4-160k_ade20k-512x512': 'deeplabv3',
    'deeplabv3_r50-d8_4xb4-40k_coco-stuff10k-512x512': 'deeplabv3',
    'ocrnet_hr48_4xb2-160k_cityscapes-512x1024': 'ocrnet',
    'ocrnet_hr48_4xb4-160k_ade20k-512x512': 'ocrnet',
    'mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024': 'mobilenet_v3',
}
LAMBDAS = {3: 1.0, 5: 2.0, 7: 1.5}


def parse_name(path):
    """Return the name of the stock config and the kernel size."""
    ksize = int(re.search(r'_cpg(\d)_', path.stem)[1])
    return path.stem.replace(f'_cpg{ksize}', ''), ksize


def test_folder_has_every_config_and_no_other():
    assert {parse_name(path) for path in CPG_STOCK} == {(name, ksize) for name in STOCK for ksize in LAMBDAS}
    assert len(CPG_STOCK) == 18


@pytest.mark.parametrize('path', CPG_STOCK, ids=lambda path: path.stem)
def test_only_the_cpg_term_is_added(path, tmp_path):
    name, ksize = parse_name(path)
    (tmp_path / 'stock.py').write_text(f"_base_ = 'mmseg::{STOCK[name]}/{name}.py'")
    stock, cfg = Config.fromfile(tmp_path / 'stock.py'), load(path)
    head = decode_heads(cfg.model)[-1]
    head.loss_decode, cpg = head.loss_decode
    assert plain(cfg.to_dict()) == plain(stock.to_dict())
    assert cpg == dict(type='mmseg_cpg.CPGLoss', ksize=ksize, loss_weight=LAMBDAS[ksize], ignore_policy='exclude')


@pytest.mark.parametrize('path', CPG_STOCK, ids=lambda path: path.stem)
def test_header_names_the_command(path):
    name, ksize = parse_name(path)
    header = header_of(path)
    assert f"MMSegmentation's {name} with CPG{ksize} " in header
    assert f'tools/dist_train.sh configs/cpg_stock/{path.name} {re.search("_([0-9]+)xb", name)[1]}' in header
    assert f'[cpg{ksize}]({path.name})' in README


@pytest.mark.parametrize('name', STOCK)
def test_readme_has_the_numbers_of_the_model_zoo(name):
    metafile = Path(mmseg.__file__).parent / '.mim' / 'configs' / STOCK[name] / 'metafile.yaml'
    (model,) = (model for model in yaml.safe_load(metafile.read_text())['Models'] if model['Name'] == name)
    iterations = load(next(path for path in CPG_STOCK if parse_name(path)[0] == name)).train_cfg.max_iters
    assert f'| {iterations} | {model["Results"]["Metrics"]["mIoU"]} | `{STOCK[name]}/{name}.py` |' in README
