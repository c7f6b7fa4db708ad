"""A synthetic dataset, a config that trains on it in seconds, and the tools as functions."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
CONFIG = """
_base_ = 'mmseg::_base_/default_runtime.py'
# MMEngine keeps what it has built under a name for the life of a process, in which several runs take place here.
experiment_name = __import__('uuid').uuid4().hex
visualizer = dict(name=experiment_name)
data_root = {data_root!r}
work_dir = {work_dir!r}
randomness = dict(seed=0)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[64.0] * 3, std=[64.0] * 3, size=(32, 32)),
    backbone=dict(
        type='UNet', base_channels=4, num_stages=2, strides=(1, 1), enc_num_convs=(1, 1), dec_num_convs=(1,),
        downsamples=(True,), enc_dilations=(1, 1), dec_dilations=(1,), norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=4, in_index=1, channels=4, num_convs=1, num_classes=3, dropout_ratio=0,
        norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
dataset = dict(
    type='BaseSegDataset', data_root=data_root, img_suffix='.png',
    metainfo=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]]))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=False),
    dataset=dict(
        **dataset, data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=[*load, dict(type='PackSegInputs')]))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset, data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=[*load, dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
        [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = [dict(type='PolyLR', power=0.9, begin=0, end=4, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=1),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1, save_best='mIoU'),
    visualization=dict(type='SegVisualizationHook'))
"""
# The modules of the classes in that config, whose default_runtime has the visualizer and the model for tests.
MODULES = {
    'mmengine.dataset': 'DefaultSampler InfiniteSampler',
    'mmengine.hooks': 'CheckpointHook IterTimerHook LoggerHook ParamSchedulerHook',
    'mmengine.optim': 'OptimWrapper PolyLR',
    'mmengine.runner': 'IterBasedTrainLoop TestLoop ValLoop',
    'mmengine.visualization': 'LocalVisBackend',
    'mmcv.transforms': 'LoadImageFromFile RandomFlip TestTimeAug',
    'mmseg.datasets': 'BaseSegDataset',
    'mmseg.datasets.transforms': 'LoadAnnotations PackSegInputs',
    'mmseg.engine.hooks': 'SegVisualizationHook',
    'mmseg.evaluation': 'IoUMetric',
    'mmseg.models': 'CrossEntropyLoss EncoderDecoder FCNHead SegDataPreProcessor SegTTAModel UNet',
    'mmseg.visualization': 'SegLocalVisualizer',
}


def as_python_config(config, name):
    """A config in MMEngine's pure Python style: classes instead of their names."""
    imports = [f'from {module} import {", ".join(names.split())}' for module, names in MODULES.items()]
    body = re.sub(r"\btype='(?!SyncBN|SGD)(\w+)'", r'type=\1', config)
    body = body.replace("_base_ = 'mmseg::_base_/default_runtime.py'\n", '')
    body = re.sub(r'^experiment_name = .*$', f'experiment_name = {name!r}', body, flags=re.MULTILINE)
    runtime = """
default_scope = 'mmseg'
env_cfg = dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
visualizer.update(type=SegLocalVisualizer, vis_backends=[dict(type=LocalVisBackend)])
log_processor = dict(by_epoch=False)
tta_model = dict(type=SegTTAModel)
"""
    return '\n'.join([*imports, body, runtime])


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    """Four training and three validation images of 32x32 px, three classes, a void line, boundaries of all lengths."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 3)):
        for kind in ('img_dir', 'ann_dir'):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            label = np.zeros((32, 32), np.uint8)
            label[8:24, 6 + 4 * index : 22] = 1
            label[26:, 12:] = 2
            label[0] = 255
            image = rng.integers(0, 60, (32, 32, 3)) + 60 * (label % 255)[..., None]
            cv2.imwrite(str(root / 'img_dir' / split / f'{index}.png'), image.astype(np.uint8))
            cv2.imwrite(str(root / 'ann_dir' / split / f'{index}.png'), label)
    return root


@pytest.fixture(scope='session')
def write_config(data_root):
    """Write the config above to a folder, followed by some lines of its own, and return its path as text."""

    def write(folder, extra='', name='tiny.py'):
        path = folder / name
        path.write_text(CONFIG.format(data_root=str(data_root), work_dir=str(folder / 'work')) + extra)
        return str(path)

    return write


@pytest.fixture(scope='session')
def write_python_config(data_root):
    """Write the same config in MMEngine's pure Python style, followed by some lines of its own."""

    def write(folder, extra='', name='pure.py'):
        path = folder / name
        text = CONFIG.format(data_root=str(data_root), work_dir=str(folder / 'work'))
        path.write_text(as_python_config(text, uuid4().hex) + extra)
        return str(path)

    return write


@pytest.fixture(scope='session')
def in_process():
    """Run a tool in a process of its own, on CPU, with this interpreter and without the repository on its path."""

    def run(*command, cwd, **environment):
        inherited = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'LOCAL_RANK')}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**inherited, 'PATH': path, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **environment},
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope='session')
def port():
    """A free port at which torchrun's processes meet, as text."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def tools(monkeypatch):
    """The folder of the tools, importable, with what a tool leaves in this process undone after the test."""
    monkeypatch.setattr(sys, 'path', [*sys.path, str(TOOLS)])
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    handler = signal.getsignal(signal.SIGTERM)
    yield TOOLS
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run_tool(tools):
    """Run a tool's main() in this process."""

    def run(name, *argv):
        spec = importlib.util.spec_from_file_location(f'tool_{name}', tools / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main([str(arg) for arg in argv])

    return run


@pytest.fixture
def fails_with(run_tool):
    """Run a tool that must leave with one line, and return that line."""

    def run(name, *argv):
        with pytest.raises(SystemExit) as leaving:
            run_tool(name, *argv)
        message = leaving.value.code
        assert message.startswith('Error: ')
        assert '\n' not in message
        return message

    return run
