"""tools/misc/check_dataset.py on synthetic trees in the layouts of the three datasets, whole and damaged."""

import shutil
from pathlib import Path

import cv2
import mmseg
import numpy as np
import pytest
from PIL import Image

from mmseg_cpg.cli import dataset_check

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TOOL = 'misc/check_dataset'
# Config, data root, image and label folder of both splits, suffixes, number of values that are a class.
DATASETS = {
    'cityscapes': (
        'deeplabv3_r50_cityscapes_cpg3',
        'data/cityscapes',
        ('leftImg8bit/train', 'gtFine/train', 'leftImg8bit/val', 'gtFine/val'),
        ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'),
        19,
    ),
    'ade20k': (
        'lraspp_m-v3_ade20k_cpg5',
        'data/ade/ADEChallengeData2016',
        ('images/training', 'annotations/training', 'images/validation', 'annotations/validation'),
        ('.jpg', '.png'),
        151,  # 0 is void
    ),
    'cocostuff': (
        'ocrnet_hr48_cocostuff_cpg7',
        'data/coco_stuff10k',
        ('images/train2014', 'annotations/train2014', 'images/test2014', 'annotations/test2014'),
        ('.jpg', '_labelTrainIds.png'),
        172,  # 0 is void
    ),
}
COUNTS = dict(train=5, val=3)


class Tree:
    """A synthetic dataset: its config, its folders, and the tool's run on it."""

    def __init__(self, name):
        config, root, self.folders, self.suffixes, self.num_values = DATASETS[name]
        self.config = CONFIGS / 'cpg' / f'{config}.py'
        self.root = Path(root)

    def path(self, index, kind, split='train'):
        place = ('train', 'val').index(split) * 2 + kind
        return self.root / self.folders[place] / 'sub' / f'{index:03d}{self.suffixes[kind]}'

    def write(self):
        for split, count in COUNTS.items():
            for index in range(count):
                for kind in (0, 1):
                    path = self.path(index, kind, split)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    # All values that are right, void among them; the image is black.
                    values = [*range(self.num_values), 255]
                    label = np.resize(np.array(values, np.uint8), (16, 24))
                    cv2.imwrite(str(path), label if kind else np.zeros((16, 24, 3), np.uint8))


@pytest.fixture
def tree(request, tmp_path, monkeypatch):
    """The tree of the dataset that a test is parametrized with, Cityscapes by default, in the current folder."""
    monkeypatch.chdir(tmp_path)
    tree = Tree(getattr(request, 'param', 'cityscapes'))
    tree.write()
    for (name, folder), published in dataset_check.PUBLISHED.items():
        split = 'train' if 'train' in folder else 'val'
        monkeypatch.setitem(dataset_check.PUBLISHED, (name, folder), published._replace(images=COUNTS[split]))
    return tree


def converter_command(tree):
    path = 'tools/dataset_converters/cityscapes.py'
    script = Path(mmseg.__file__).parent / '.mim' / path
    script = script if script.is_file() else f'MMSEGMENTATION/{path}'
    return f'pip install cityscapesscripts; python {script} {tree.root}/ --nproc 8'


@pytest.fixture
def problems(fails_with, capsys):
    """Run the tool, which must fail, and return the lines that name a problem."""

    def run(config, *options):
        message = fails_with(TOOL, config, *options)
        lines = [line.strip() for line in capsys.readouterr().out.splitlines() if 'ERROR: ' in line]
        plural = 's' if len(lines) > 1 else ''
        assert message == f"Error: {len(lines)} error{plural} in the data of '{config}', see above."
        return [line.removeprefix('ERROR: ') for line in lines]

    return run


def test_published_numbers():
    numbers = {f'{name} {folder}': published.images for (name, folder), published in dataset_check.PUBLISHED.items()}
    assert numbers == {
        'CityscapesDataset leftImg8bit/train': 2975,
        'CityscapesDataset leftImg8bit/val': 500,
        'CityscapesDataset leftImg8bit/train_extra': 19998,
        'ADE20KDataset images/training': 20210,
        'ADE20KDataset images/validation': 2000,
        'COCOStuffDataset images/train2014': 9000,
        'COCOStuffDataset images/test2014': 1000,
    }


@pytest.mark.parametrize('tree', DATASETS, indirect=True)
def test_a_whole_dataset_is_in_its_place(tree, run_tool, capsys):
    run_tool(TOOL, tree.config)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert 'ERROR' not in ' '.join(lines)
    assert lines[-1] == 'No problems found.'
    assert f"5 images (*{tree.suffixes[0]}) in '{tree.root / tree.folders[0]}', 5 expected" in lines
    assert f"3 labels (*{tree.suffixes[1]}) for them in '{tree.root / tree.folders[3]}'" in lines
    assert '5 pairs compared in size' in lines
    assert lines[-2] == 'same files as val_dataloader'  # test_dataloader's


@pytest.mark.parametrize('tree', DATASETS, indirect=True)
@pytest.mark.parametrize('split', COUNTS)
def test_invalid_values_are_named(tree, problems, split):
    value = tree.num_values
    path = tree.path(1, 1, split)
    cv2.imwrite(str(path), np.full((16, 24), value, np.uint8))
    (problem,) = problems(tree.config)
    right = f'0 to {value - 1}, 255'
    assert problem.startswith(f"1 label with invalid values, e.g. '{path}': {value}; expected {right}")


def test_label_ids_instead_of_train_ids_name_the_converter(tree, problems):
    for index in range(5):
        cv2.imwrite(str(tree.path(index, 1)), np.resize(np.arange(34, dtype=np.uint8), (16, 24)))
    (problem,) = problems(tree.config, '--splits', 'train')
    assert problem.startswith('5 labels with invalid values')
    assert f': {", ".join(map(str, range(19, 34)))}; expected 0 to 18, 255. ' in problem
    assert problem.endswith(f'. To make labels: {converter_command(tree)}')


@pytest.mark.parametrize('tree', ['cityscapes', 'cocostuff'], indirect=True)
def test_labels_that_were_not_converted_name_the_converter(tree, problems):
    for path in (tree.root / tree.folders[1]).rglob('*.png'):
        path.rename(path.with_name(path.name.replace('labelTrainIds', 'labelIds')))
    (problem,) = problems(tree.config, '--splits', 'train')
    assert problem.startswith(f"5 labels missing, e.g. '{tree.path(0, 1)}'. To make labels: ")


def test_pairs_that_do_not_match_are_named(tree, problems):
    tree.path(0, 1).unlink()
    tree.path(3, 0).unlink()
    cv2.imwrite(str(tree.path(1, 1)), np.zeros((24, 16), np.uint8))
    tree.path(2, 0).write_bytes(b'')
    assert problems(tree.config) == [
        f"4 images (*_leftImg8bit.png) in '{tree.root / tree.folders[0]}', 5 expected",
        f"1 label missing, e.g. '{tree.path(0, 1)}'. To make labels: {converter_command(tree)}",
        f"1 label without an image, e.g. '{tree.path(3, 1)}'",
        f"1 file unreadable, e.g. '{tree.path(2, 0)}'",
        f"1 pair of different sizes, e.g. '{tree.path(1, 0)}' 24x16 and '{tree.path(1, 1)}' 16x24",
    ]


def test_an_extra_label_of_complete_images_is_no_error(tree, run_tool, capsys):
    tree.path(9, 1).write_bytes(tree.path(0, 1).read_bytes())
    run_tool(TOOL, tree.config)
    assert f"1 label without an image, e.g. '{tree.path(9, 1)}'" in capsys.readouterr().out


@pytest.mark.parametrize('tree', ['ade20k'], indirect=True)
def test_files_that_cannot_be_labels_are_named(tree, problems):
    cv2.imwrite(str(tree.path(0, 1)), np.zeros((16, 24, 3), np.uint8))
    whole = tree.path(1, 1).read_bytes()
    tree.path(1, 1).write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(tree.path(2, 1)), np.full((16, 24), 300, np.uint16))
    cv2.imwrite(str(tree.path(3, 1)), np.full((16, 24), 150, np.uint16))  # is loaded as 8 bits
    tree.path(4, 1).write_bytes(b'no image')
    assert problems(tree.config) == [
        f"1 file unreadable, e.g. '{tree.path(4, 1)}'",
        f"3 labels unusable, e.g. label '{tree.path(0, 1)}' has 3 channels instead of one",
    ]


@pytest.mark.parametrize('tree', ['ade20k'], indirect=True)
def test_an_image_that_is_turned_while_loading_is_compared_as_it_is_loaded(tree, run_tool, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (16, 24)).save(tree.path(0, 0), exif=exif)
    assert cv2.imread(str(tree.path(0, 0))).shape[:2] == (16, 24)
    run_tool(TOOL, tree.config)
    assert 'No problems found.' in capsys.readouterr().out


@pytest.mark.parametrize('color_type', ['unchanged', 'color_ignore_orientation'])
def test_an_image_that_is_not_turned_while_loading_is_compared_as_it_is_loaded(
    write_config, data_root, run_tool, capsys, tmp_path, color_type
):
    copy = shutil.copytree(data_root, tmp_path / 'data')
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (copy / 'img_dir').rglob('*.png'):
        Image.new('RGB', (30, 32)).save(path, format='JPEG', exif=exif)
        cv2.imwrite(str(copy / 'ann_dir' / path.parent.name / path.name), np.zeros((32, 30), np.uint8))
    extra = f"""
load[0]['color_type'] = {color_type!r}
for loader in (train_dataloader, val_dataloader):
    loader['dataset']['data_root'] = {str(copy)!r}
del loader
"""
    run_tool(TOOL, write_config(tmp_path, extra))
    output = capsys.readouterr().out
    assert '4 pairs compared in size' in output
    assert 'ERROR' not in output


def test_a_loop_of_links_among_the_images_is_one_line(tree, problems):
    folder = tree.root / tree.folders[0]
    (folder / 'loop').symlink_to('..')
    problem, *_ = problems(tree.config, '--splits', 'train')
    assert problem.startswith('images cannot be listed (Too many levels of symbolic links: ')


@pytest.mark.parametrize(
    ('moved', 'to'),
    [
        ('leftImg8bit/train', 'leftImg8bit_trainvaltest/leftImg8bit/train'),
        ('gtFine', 'gtFine_trainvaltest/gtFine'),
        ('../cityscapes', '../city/data/cityscapes'),
    ],
)
def test_a_folder_in_another_place_is_found(tree, problems, moved, to):
    target = Path(tree.root, to)
    target.parent.mkdir(parents=True)
    Path(tree.root, moved).resolve().rename(target.resolve())
    problem, *_ = problems(tree.config, '--splits', 'train')
    assert 'not found in the current folder' in problem
    found = Path(problem.split(" Is it '")[1].removesuffix("'?"))
    assert found.resolve().is_relative_to(target.resolve())


@pytest.mark.parametrize(
    ('moved', 'to', 'wanted'),
    [
        ('../cityscapes', '../Cityscapes', ''),
        ('leftImg8bit', 'left_img-8bit', '/train'),
        ('gtFine/train', 'gtFine/Train', ''),
    ],
)
def test_a_folder_that_is_spelled_otherwise_is_found(tree, problems, moved, to, wanted):
    Path(tree.root, moved).resolve().rename(Path(tree.root, to).resolve())
    problem, *_ = problems(tree.config, '--splits', 'train')
    found = problem.split(" Is it '")[1].removesuffix("'?")
    assert found.endswith(Path(to).name + wanted)


def swap(first, second):
    first.rename(first.with_name('swapped'))
    second.rename(first)
    first.with_name('swapped').rename(second)


@pytest.mark.parametrize('tree', DATASETS, indirect=True)
def test_images_and_labels_that_are_swapped_are_noticed(tree, problems):
    images, labels, *_ = (tree.root / folder for folder in tree.folders)
    swap(images, labels)
    (problem,) = problems(tree.config, '--splits', 'train')
    assert problem.startswith(f"No '*{tree.suffixes[0]}' images in '{images}' (")
    assert problem.endswith(f"). Is it swapped with '{labels}'?")


@pytest.mark.parametrize('tree', DATASETS, indirect=True)
@pytest.mark.parametrize('kind', [0, 1])
def test_splits_that_are_swapped_are_noticed(tree, problems, kind):
    for path in list(tree.root.rglob('*.*')):
        split = 'val' if any(folder in str(path) for folder in tree.folders[2:]) else 'train'
        path.rename(path.with_name(f'{split}_{path.name}'))
    swap(tree.root / tree.folders[kind], tree.root / tree.folders[2 + kind])
    missing = [problem for problem in problems(tree.config) if 'missing' in problem]
    assert len(missing) == 2
    for problem, other in zip(missing, (3, 1), strict=True):
        assert problem.endswith(f"They are in '{tree.root / tree.folders[other]}': are folders of two splits swapped?")


def test_every_dataset_is_checked_even_where_others_are_missing(tree, problems):
    for path in (tree.root / tree.folders[0]).rglob('*.png'):
        path.unlink()
    tree.path(0, 1, 'val').unlink()
    empty, missing = problems(tree.config)
    assert empty.startswith(f"No '*_leftImg8bit.png' images in 'data/cityscapes/{tree.folders[0]}'")
    assert missing.startswith('1 label missing')


def test_a_folder_that_all_splits_lack_is_one_problem(tree, problems, capsys):
    tree.root.rename(tree.root.with_name('elsewhere'))
    (problem,) = problems(tree.config)
    assert problem.startswith(f"Dataset folder '{tree.root}")


def test_labels_are_sampled_unless_all_are_asked_for(tree, run_tool, fails_with, capsys, monkeypatch):
    spread = dataset_check._spread
    monkeypatch.setattr(dataset_check, '_spread', lambda items, number: spread(items, number and 3))
    cv2.imwrite(str(tree.path(1, 1)), np.full((16, 24), 19, np.uint8))
    run_tool(TOOL, tree.config)
    assert '3 labels read for 19 classes' in capsys.readouterr().out
    fails_with(TOOL, tree.config, '--all-labels')
    assert '5 labels read for 19 classes' in capsys.readouterr().out
    assert spread(list(range(20210)), 1000)[:3] == [0, 20, 40]
    assert len(set(spread(list(range(20210)), 1000))) == 1000
    assert spread([1, 2], 1000) == [1, 2]


def test_auto_labelled_images_are_checked_as_well(tree, problems, run_tool, capsys, tmp_path):
    extra, labels = (
        tree.root / folder / 'sub' for folder in ('leftImg8bit/train_extra', 'refinement_final/train_extra')
    )
    config = tmp_path / 'mine.py'
    bases = [str(tree.config), str(CONFIGS / '_base_/datasets/cityscapes_auto-labelled.py')]
    config.write_text(f"_base_ = {bases}\ntrain_dataloader = _base_.pop('auto_labelled')\n")
    (problem,) = problems(config, '--splits', 'train')
    assert "leftImg8bit/train_extra' (train_dataloader, mmseg_cpg.AutoLabelledCityscapesDataset) not found" in problem

    for folder in (extra, labels):
        folder.mkdir(parents=True)
    for index in range(6):
        label = np.resize(np.arange(34, dtype=np.uint8), (16, 24))
        cv2.imwrite(str(labels / f'{index}_leftImg8bit.png'), label)
        if index < 5:
            cv2.imwrite(str(extra / f'{index}_leftImg8bit.png'), np.zeros((16, 24, 3), np.uint8))
    run_tool(TOOL, config, '--splits', 'train')
    assert capsys.readouterr().out.count('5 labels read for 19 classes') == 2
    for path in labels.iterdir():
        cv2.imwrite(str(path), np.resize(np.array([*range(19), 255], np.uint8), (16, 24)))
    run_tool(TOOL, config, '--splits', 'train')
    *_, warning, last = capsys.readouterr().out.splitlines()
    assert warning == (
        '  WARNING: 13 of 19 classes are absent from the 5 labels read, which contain 0 to 18, 255: traffic light, '
        'traffic sign, vegetation, terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle'
    )
    assert last == 'No errors, 1 warning, see above.'
    cv2.imwrite(str(labels / '2_leftImg8bit.png'), np.full((16, 24), 34, np.uint8))
    (problem,) = problems(config, '--splits', 'train')
    assert problem.endswith(': 34; expected 0 to 33, 255')


def test_any_dataset_derived_from_base_seg_dataset_is_checked(write_config, problems, run_tool, capsys, tmp_path):
    run_tool(TOOL, write_config(tmp_path))
    assert 'No problems found.' in capsys.readouterr().out
    fewer = "dataset['metainfo'].update(classes=('a', 'b'), palette=[[0] * 3, [1] * 3])"
    train, val = problems(write_config(tmp_path, fewer))
    assert train.startswith('4 labels with invalid values')
    assert val.endswith(': 2; expected 0 to 1, 255')
    run_tool(TOOL, write_config(tmp_path, "dataset['metainfo'].clear()"))
    assert 'label values not checked: the dataset names no classes' in capsys.readouterr().out


def test_a_dataset_that_cannot_be_built_is_a_problem(tree, problems):
    (problem,) = problems(tree.config, '--cfg-options', 'train_dataloader.dataset.type=NoDataset')
    assert 'NoDataset is not in the mmseg::dataset registry' in problem


def test_a_split_without_a_loader_is_one_line(tree, fails_with):
    options = ['--cfg-options', 'train_dataloader=None', '--splits', 'train']
    assert 'has no data loader for train' in fails_with(TOOL, tree.config, *options)


def test_a_damaged_image_behind_a_whole_header_is_named(tree, problems):
    path = tree.path(3, 0)
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    cv2.imwrite(str(path), image)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    (problem,) = problems(tree.config, '--splits', 'train')
    assert problem.startswith(f"1 image damaged, e.g. image '{path}' cannot be read (")


@pytest.mark.parametrize('tree', ['ade20k'], indirect=True)
def test_a_truncated_jpeg_is_named(tree, problems):
    path = tree.path(3, 0)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: 3 * len(content) // 4])
    (problem,) = problems(tree.config, '--splits', 'train')
    assert problem.startswith(f"1 image damaged, e.g. image '{path}' cannot be read (")


def test_files_that_only_the_pipelines_loader_reads(write_config, data_root, problems, run_tool, capsys, tmp_path):
    """Images of eight bands and labels in floating point, as remote sensing has them."""
    tifffile = pytest.importorskip('tifffile')
    for split in ('train', 'val'):
        for kind in ('img_dir', 'ann_dir'):
            (tmp_path / kind / split).mkdir(parents=True)
        for path in (data_root / 'ann_dir' / split).iterdir():
            label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            bands = np.random.default_rng(0).random((*label.shape, 8), np.float32)
            tifffile.imwrite(tmp_path / 'img_dir' / split / f'{path.stem}.tif', bands)
            tifffile.imwrite(tmp_path / 'ann_dir' / split / f'{path.stem}.tif', label.astype(np.float32))
    extra = f"""
data_root = {str(tmp_path)!r}
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(data_root=data_root, img_suffix='.tif', seg_map_suffix='.tif')
    loader['dataset']['pipeline'] = [
        dict(type=kind, imdecode_backend='tifffile') for kind in ('LoadImageFromFile', 'LoadAnnotations')]
del loader
"""
    config = write_config(tmp_path, extra)
    run_tool(TOOL, config)
    assert 'No problems found.' in capsys.readouterr().out
    path = tmp_path / 'ann_dir/train/0.tif'
    tifffile.imwrite(path, np.full((32, 32), 1.5, np.float32))
    (tmp_path / 'img_dir/val/1.tif').write_bytes(b'II no image')
    labels, images = problems(config)
    assert labels == f"1 label unusable, e.g. label '{path}' has the value 1.5, not a class id"
    assert images == f"1 file unreadable, e.g. '{tmp_path}/img_dir/val/1.tif'"


OWN_LOADER = """
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ReadBands(BaseTransform):
    def transform(self, results):
        return {**results, 'img': np.load(results['img_path'])}
"""


def test_images_that_only_an_unknown_step_reads_are_not_compared(
    write_config, data_root, run_tool, capsys, tmp_path, monkeypatch
):
    for path in data_root.rglob('*.png'):
        copy = tmp_path / path.relative_to(data_root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        if 'img_dir' in path.parts:
            np.save(copy.with_suffix('.npy'), np.zeros((32, 32, 8)))
    (tmp_path / 'read_bands_of_this_test.py').write_text(OWN_LOADER)
    monkeypatch.syspath_prepend(tmp_path)
    extra = f"""
custom_imports = dict(imports='read_bands_of_this_test')
for loader in (train_dataloader, val_dataloader):
    loader['dataset'].update(data_root={str(tmp_path)!r}, img_suffix='.npy', seg_map_suffix='.png')
    loader['dataset']['pipeline'] = [dict(type='ReadBands'), dict(type='LoadAnnotations')]
del loader
"""
    run_tool(TOOL, write_config(tmp_path, extra))
    output = capsys.readouterr().out
    assert "4 pairs not compared in size: the pipeline has no 'Load...' step for images" in output
    assert '0 pairs compared in size' in output
    assert 'No problems found.' in output


def test_images_too_large_for_pillow_are_read_by_the_pipeline(
    write_config, data_root, problems, run_tool, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 200)  # above twice as many it raises an error
    copy = shutil.copytree(data_root, tmp_path / 'data')
    extra = f"""
load[1]['imdecode_backend'] = 'cv2'
for loader in (train_dataloader, val_dataloader):
    loader['dataset']['data_root'] = {str(copy)!r}
del loader
"""
    config = write_config(tmp_path, extra)
    run_tool(TOOL, config)
    output = capsys.readouterr().out
    assert '4 pairs compared in size' in output
    assert '4 images read' in output
    assert 'No problems found.' in output
    cv2.imwrite(str(copy / 'ann_dir/train/2.png'), np.zeros((32, 30), np.uint8))
    (problem,) = problems(config)
    assert problem.startswith('1 pair of different sizes')
