import shutil
from pathlib import Path

import pytest
import torch
from mmengine.fileio import LocalBackend

from mmseg_cpg.models.edge_network import load_edge_layers

TOOL = 'train_edge_network'
SHORT = ['--cfg-options', 'train_cfg.max_iters=2', 'default_hooks.logger.interval=1']
SEMEDA = """
train_cfg['max_iters'] = 1
head = model['decode_head']
head['loss_decode'] = [head['loss_decode'], dict(type='mmseg_cpg.SEMEDALoss', checkpoint={checkpoint!r})]
"""


@pytest.fixture
def labels_only(data_root, tmp_path):
    """A copy of the dataset with images that cannot be decoded."""
    root = tmp_path / 'labels_only'
    shutil.copytree(data_root, root)
    for path in root.glob('img_dir/*/*'):
        path.write_bytes(b'')
    return f'data_root={root}', f'train_dataloader.dataset.data_root={root}', f'val_dataloader.dataset.data_root={root}'


def log_of(work_dir):
    return '\n'.join(path.read_text() for path in sorted(Path(work_dir).glob('*/*.log')))


def test_trains_on_labels_alone_and_a_segmentor_trains_with_the_result(
    write_config, labels_only, run_tool, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run_tool(TOOL, write_config(tmp_path), *SHORT, *labels_only)
    work_dir = Path('work_dirs/tiny_edge_network')
    checkpoint = str(work_dir / 'edge_network.pth')
    log = log_of(work_dir)
    for name in ('loss_edge: ', 'edge_F: ', 'edge_mF: ', f"dict(type='mmseg_cpg.SEMEDALoss', checkpoint='{checkpoint}"):
        assert name in log
    assert [weight.shape[:2] for weight, _ in load_edge_layers(checkpoint)] == [(32, 3), (32, 32)]

    run_tool('train', write_config(tmp_path, SEMEDA.format(checkpoint=checkpoint), 'semeda.py'))
    assert 'decode.loss_semeda: ' in log_of(tmp_path / 'work')
    segmentor = torch.load(tmp_path / 'work' / 'iter_1.pth', weights_only=False)
    assert not [name for name in segmentor['state_dict'] if 'loss' in name]


def test_resumes_where_it_stopped(write_config, run_tool, tmp_path):
    options = ['--work-dir', tmp_path / 'edge', *SHORT, 'default_hooks.checkpoint.interval=1']
    config = write_config(tmp_path)
    run_tool(TOOL, config, *options)
    run_tool(TOOL, config, '--resume', *options, 'train_cfg.max_iters=3')
    assert 'resumed epoch: 0, iter: 2' in log_of(tmp_path / 'edge')
    assert (tmp_path / 'edge' / 'iter_3.pth').is_file()


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_network(
    write_config, run_tool, fails_with, tmp_path, monkeypatch
):
    options = [write_config(tmp_path), '--work-dir', tmp_path / 'edge', *SHORT]
    put = LocalBackend.put

    def full(self, obj, filepath):
        if 'edge_network' in str(filepath):
            Path(filepath).write_bytes(obj[:100])
            raise OSError(28, 'No space left on device')
        put(self, obj, filepath)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, 'put', full)
        line = fails_with(TOOL, *options)
    path = tmp_path / 'edge' / 'edge_network.pth'
    assert line.startswith(f"Error: No space left on device: '{path}'. The same command with --resume")
    assert not list(path.parent.glob('edge_network.pth*'))
    run_tool(TOOL, options[0], '--resume', *options[1:])
    assert path.is_file()


def test_mistakes_are_one_line(write_config, fails_with, tmp_path):
    assert "Config 'nowhere.py' not found" in fails_with(TOOL, 'nowhere.py')
    config = write_config(tmp_path)
    missing = fails_with(TOOL, config, '--cfg-options', 'train_dataloader.dataset.data_root=nowhere')
    assert "'nowhere' (train_dataloader, BaseSegDataset) not found" in missing
    config = write_config(tmp_path, SEMEDA.format(checkpoint='edges/edge_network.pth'), 'semeda.py')
    expected = 'To train it on the labels of your dataset: python tools/train_edge_network.py CONFIG --work-dir edges'
    assert expected in fails_with('train', config)
