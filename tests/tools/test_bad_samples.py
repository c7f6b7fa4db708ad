"""A file that cannot be trained or tested with is named in one line, from worker processes too."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image


def first_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_header(path):
    path.write_bytes(b'\0' * 16 + path.read_bytes()[16:])


def crop(path):
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :30])


def turn(path):
    crop(path)
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).swapaxes(0, 1))


def color(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.stack([label] * 3, -1))


def wrong_id(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[3, 4] = 7
    cv2.imwrite(str(path), label)


def wide(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint16)
    label[3, 4] = 257  # 1 in 8 bits
    cv2.imwrite(str(path), label)


def fractional(path):
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)
    label[3, 4] = 0.9
    Image.fromarray(label).save(path, format='tiff')


FAULTS = {
    'empty image': ('img_dir', lambda path: path.write_bytes(b''), "Image '{}' cannot be read ("),
    'text as an image': ('img_dir', lambda path: path.write_text('hello'), "Image '{}' cannot be read ("),
    'damaged image': ('img_dir', damage_header, "Image '{}' cannot be read ("),
    'truncated image': ('img_dir', first_half, "Image '{}' cannot be read ("),
    'empty label': ('ann_dir', lambda path: path.write_bytes(b''), "Label '{}' cannot be read ("),
    'truncated label': ('ann_dir', first_half, "Label '{}' cannot be read ("),
    'damaged label': ('ann_dir', damage_header, "Label '{}' cannot be read ("),
    'missing label': ('ann_dir', lambda path: path.unlink(), "Label '{}' cannot be read (FileNotFoundError: "),
    'color label': ('ann_dir', color, "Label '{}' has shape (32, 32, 3): expected one channel"),
    'wrong id': ('ann_dir', wrong_id, "Label '{}' has class id 7 after loading, but the model has 3 classes"),
    '16 bits': ('ann_dir', wide, "Label '{}' has values from 0 to 257, which do not fit 8 bits"),
    'probability': ('ann_dir', fractional, "Label '{}' has the value 0.89"),
    'narrow label': ('ann_dir', crop, "has 32x32 pixels, but its label '{}' has 30x32"),
    'flat label': ('ann_dir', turn, "has 32x32 pixels, but its label '{}' has 32x30"),
    'narrow image': ('img_dir', crop, "Image '{}' has 30x32 pixels, but its label"),
}


@pytest.fixture
def data(data_root, tmp_path):
    """A copy of the dataset."""
    return shutil.copytree(data_root, tmp_path / 'data')


@pytest.fixture
def config(write_config, tmp_path):
    return write_config(tmp_path)


@pytest.fixture(scope='module')
def checkpoint(write_config, tmp_path_factory):
    """The weights of an untrained model."""
    folder = tmp_path_factory.mktemp('untrained')
    cfg = Config.fromfile(write_config(folder))
    init_default_scope('mmseg')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, folder / 'untrained.pth')
    return folder / 'untrained.pth'


@pytest.mark.parametrize('fault', FAULTS)
def test_training_names_the_file(data, config, fails_with, tmp_path, fault):
    kind, apply, message = FAULTS[fault]
    path = data / kind / 'train' / '2.png'
    apply(path)
    options = [f'train_dataloader.dataset.data_root={data}', 'train_dataloader.num_workers=0']
    line = fails_with('train', config, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert message.format(path) in line


@pytest.mark.parametrize('fault', ['damaged image', 'truncated label', 'wrong id', 'narrow label'])
def test_training_names_the_file_from_a_worker_process(data, config, fails_with, tmp_path, fault):
    kind, apply, message = FAULTS[fault]
    path = data / kind / 'train' / '2.png'
    apply(path)
    options = [f'train_dataloader.dataset.data_root={data}', 'train_dataloader.num_workers=1']
    line = fails_with('train', config, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert line.startswith('Error: Image ') or line.startswith('Error: Label ')
    assert message.format(path) in line


@pytest.mark.parametrize('options', [[], ['--tta']], ids=['plain', 'tta'])
@pytest.mark.parametrize('fault', ['empty image', 'damaged label', 'wrong id', 'narrow label', 'narrow image'])
def test_testing_names_the_file(data, config, checkpoint, fails_with, tmp_path, fault, options):
    kind, apply, message = FAULTS[fault]
    path = data / kind / 'val' / '1.png'
    apply(path)
    settings = [f'test_dataloader.dataset.data_root={data}']
    line = fails_with('test', config, checkpoint, '--work-dir', tmp_path / 'work', *options, '--cfg-options', *settings)
    assert message.format(path) in line


def as_16_bits(path):
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint16))


def as_palette(path):
    image = Image.fromarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 'P')
    image.putpalette(range(256))
    image.save(path)


def as_float(path):
    Image.fromarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)).save(path, format='tiff')


@pytest.mark.parametrize('convert', [as_16_bits, as_palette, as_float])
def test_other_files_of_the_same_class_ids_train(data, config, run_tool, tmp_path, convert):
    for path in (data / 'ann_dir').rglob('*.png'):
        convert(path)
    options = [f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val')]
    run_tool('train', config, '--work-dir', tmp_path / 'work', '--cfg-options', *options)


@pytest.mark.parametrize('dtype', [np.uint16, np.int32])
def test_void_with_all_bits_set_is_void(data, config, run_tool, tmp_path, dtype):
    """65535 or -1, which MMSegmentation loads as 255."""
    for path in (data / 'ann_dir').rglob('*.png'):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(dtype)
        label[label == 255] = np.array(-1).astype(dtype)
        Image.fromarray(label).save(path, format='tiff')
    options = [f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val')]
    run_tool('train', config, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    run_tool('misc/check_dataset', config, '--cfg-options', *options)


OWN_STEP = """
custom_imports = dict(imports={module!r})
load[{place}] = dict(type={step!r})
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(data_root={root!r}, img_suffix={image!r}, seg_map_suffix={label!r})
    loader['dataset']['pipeline'] = [*load, dict(type='PackSegInputs')]
del loader
"""


@pytest.fixture
def own_step(data, tmp_path, monkeypatch):
    """Write a transform's module, and return what makes a config load images (place 0) or labels (1) with it."""

    def write(source, step, place, image, label):
        module = f'{step.lower()}_of_this_test'
        (tmp_path / f'{module}.py').write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return OWN_STEP.format(module=module, place=place, step=step, root=str(data), image=image, label=label)

    return write


OWN_LOADER = """
import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadArrays(LoadAnnotations):
    def _load_seg_map(self, results):
        results['gt_seg_map'] = np.load(results['seg_map_path']).astype(np.uint8)
        results['seg_fields'].append('gt_seg_map')
"""


def test_labels_that_a_loader_of_ones_own_reads(data, write_config, own_step, run_tool, fails_with, tmp_path):
    for path in (data / 'ann_dir').rglob('*.png'):
        np.save(path.with_suffix('.npy'), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    config = write_config(tmp_path, own_step(OWN_LOADER, 'LoadArrays', 1, '.png', '.npy'))
    run_tool('train', config)
    run_tool('misc/check_dataset', config)
    path = data / 'ann_dir' / 'train' / '1.npy'
    np.save(path, np.full((32, 30), 7, np.uint8))
    assert f"its label '{path}' has 30x32" in fails_with('train', config)
    assert '2 errors in the data' in fails_with('misc/check_dataset', config)


def test_a_label_that_is_loaded_before_its_image_is_compared_with_it(data, write_config, fails_with, tmp_path):
    crop(data / 'ann_dir' / 'train' / '2.png')
    extra = f"""
train_dataloader['dataset'].update(
    data_root={str(data)!r}, pipeline=[load[1], load[0], dict(type='PackSegInputs')])
"""
    assert "2.png' has 30x32" in fails_with('train', write_config(tmp_path, extra))


def test_labels_too_large_for_pillow_are_checked(data, write_config, run_tool, fails_with, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    config = write_config(tmp_path, "load[1]['imdecode_backend'] = 'cv2'\n")
    options = ['--work-dir', tmp_path / 'work', '--cfg-options', f'train_dataloader.dataset.data_root={data}']
    run_tool('train', config, *options)
    path = data / 'ann_dir' / 'train' / '2.png'
    wide(path)
    assert f"Label '{path}' has values from 0 to 257" in fails_with('train', config, *options)


def test_validation_names_the_file(data, config, fails_with, tmp_path):
    crop(data / 'ann_dir' / 'val' / '0.png')
    options = [f'val_dataloader.dataset.data_root={data}']
    line = fails_with('train', config, '--work-dir', tmp_path / 'work', '--cfg-options', *options)
    assert f"its label '{data / 'ann_dir' / 'val' / '0.png'}' has 30x32" in line


WRAPPED = """
train_dataloader['dataset'] = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[
    train_dataloader['dataset']]))
"""
RESIZED_FIRST = """
test_dataloader['dataset']['pipeline'] = [
    load[0], dict(type='Resize', scale=(48, 48)), load[1], dict(type='PackSegInputs')]
"""
MIXED = """
train_dataloader['dataset'] = dict(
    type='MultiImageMixDataset', dataset=dict(train_dataloader['dataset'], pipeline=load),
    pipeline=[dict(type='RandomMosaic', prob=1.0, img_scale=(32, 32)), dict(type='RandomCrop', crop_size=(32, 32)),
              dict(type='PackSegInputs')])
"""


@pytest.mark.parametrize('extra', [WRAPPED, MIXED], ids=['wrapped', 'mixed'])
@pytest.mark.parametrize(
    ('fault', 'message'),
    [(crop, "its label '{}' has 30x32"), (wrong_id, "Label '{}' has class id 7")],
    ids=['size', 'id'],
)
def test_datasets_in_others_are_checked(data, write_config, fails_with, tmp_path, extra, fault, message):
    path = data / 'ann_dir' / 'train' / '3.png'
    fault(path)
    config = write_config(tmp_path, f'train_dataloader["dataset"]["data_root"] = {str(data)!r}\n{extra}')
    assert message.format(path) in fails_with('train', config, '--work-dir', tmp_path / 'work')


def test_an_image_that_is_resized_before_its_label_is_loaded_fits(write_config, checkpoint, run_tool, tmp_path):
    run_tool('test', write_config(tmp_path, RESIZED_FIRST), checkpoint, '--work-dir', tmp_path / 'work')


def test_ids_that_a_loss_ignores_are_right(data, write_config, run_tool, fails_with, tmp_path):
    wrong_id(data / 'ann_dir' / 'train' / '2.png')
    options = ['--cfg-options', f'train_dataloader.dataset.data_root={data}', 'train_cfg.max_iters=2']
    settings = "model['decode_head'].update(ignore_index={})\n"
    line = fails_with('train', write_config(tmp_path, settings.format(7)), '--work-dir', tmp_path / 'work', *options)
    assert 'has class id 255 after loading, but the model has 3 classes: expected 0 to 2, or 7 for void.' in line
    for path in (data / 'ann_dir' / 'train').iterdir():
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[label == 255] = 7
        cv2.imwrite(str(path), label)
    run_tool('train', write_config(tmp_path, settings.format(7)), '--work-dir', tmp_path / 'work', *options)


OWN_IMAGES = """
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadBands(BaseTransform):
    def transform(self, results):
        image = np.load(results['img_path'])[..., :3]
        return {**results, 'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}
"""


def test_images_that_cannot_be_drawn_do_not_end_a_run(data, write_config, own_step, checkpoint, run_tool, tmp_path):
    for path in (data / 'img_dir').rglob('*.png'):
        np.save(path.with_suffix('.npy'), np.zeros((32, 32, 8), np.float32))
    draw = "default_hooks['visualization'] = dict(type='SegVisualizationHook', draw=True, interval=1)\n"
    config = write_config(tmp_path, own_step(OWN_IMAGES, 'LoadBands', 0, '.npy', '.png') + draw)
    run_tool('train', config)
    assert (tmp_path / 'work' / 'iter_3.pth').is_file()
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'tested', '--show-dir', tmp_path / 'show')
    for work_dir in ('work', 'tested'):
        (log,) = (tmp_path / work_dir).glob('*/*.log')
        assert log.read_text().count('SegVisualizationHook skips images that it cannot draw (') == 1
