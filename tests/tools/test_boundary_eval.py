"""BoundaryMetric in the test loop, on one process and two, and the tool on what that saved."""

import json
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from mmseg_cpg.cli.config import load_config

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
TOOL = 'analysis/boundary_eval'
EXTRA = """
test_evaluator = [
    dict(type='IoUMetric'), dict(type='mmseg_cpg.BoundaryMetric', width_px=2, trimap_widths_px=[3], tolerances_px=[2])]
"""


@pytest.fixture(scope='module')
def untrained(write_config, tmp_path_factory):
    """A config with BoundaryMetric, and weights at random."""
    folder = tmp_path_factory.mktemp('untrained')
    config = write_config(folder, EXTRA)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = load_config(Namespace(config=config, cfg_options=None, launcher='none', work_dir=None)).model
    torch.save(MODELS.build(model).state_dict(), folder / 'start.pth')
    return config, folder / 'start.pth'


def read_metrics(work_dir):
    (path,) = work_dir.glob('*/*.json')
    return {name: value for name, value in json.loads(path.read_text()).items() if not name.endswith('time')}


@pytest.fixture
def tested(untrained, run_tool, tmp_path):
    """Metrics of the test loop, and the folder with its predictions."""
    run_tool('test', *untrained, '--work-dir', tmp_path / 'work', '--out', tmp_path / 'out')
    return read_metrics(tmp_path / 'work'), tmp_path / 'out'


def test_a_json_that_cannot_be_written_is_named_before_the_evaluation(folders, fails_with, capsys, tmp_path):
    (tmp_path / 'file').touch()
    arguments = [*folders, '--num-classes', 2, '--json']
    message = fails_with(TOOL, *arguments, tmp_path / 'file' / 'scores.json')
    assert message == f"Error: '{tmp_path / 'file'}' is a file, not a folder. Choose another --json."
    assert 'mBIoU' not in capsys.readouterr().out
    (tmp_path / 'folder').mkdir()
    assert "Is a directory: '" in fails_with(TOOL, *arguments, tmp_path / 'folder')


@pytest.fixture
def folders(tmp_path):
    """Two images of two classes, the prediction a pixel off."""
    for name in ('pred', 'gt'):
        (tmp_path / name).mkdir()
    label = np.zeros((10, 10), np.uint8)
    label[:, 5:] = 1
    for index in range(2):
        write(tmp_path / 'gt' / f'{index}.png', label)
        write(tmp_path / 'pred' / f'{index}.png', np.roll(label, 1, 1) * (np.arange(10) > 0))
    return tmp_path / 'pred', tmp_path / 'gt'


def write(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(label, np.uint8)).save(path)


def evaluate(run_tool, folders, *options):
    out = folders[0].parent / 'results' / 'out.json'
    run_tool(TOOL, *folders, '--num-classes', 2, '--width-px', 1, '--json', out, *options)
    return json.loads(out.read_text(), parse_constant=pytest.fail)


def test_tool_gives_what_the_test_loop_gives(tested, data_root, run_tool, capsys):
    metrics, out = tested
    assert len(np.unique([cv2.imread(str(path), 0) for path in out.iterdir()])) > 1
    options = ['--width-px', 2, '--trimap-widths-px', 3, '--tolerances-px', 2, '--json', out / 'out.json']
    run_tool(TOOL, out, data_root / 'ann_dir' / 'val', '--num-classes', 3, *options)
    scores = json.loads((out / 'out.json').read_text())
    assert 0 < scores['mBIoU'] < 100
    assert {name: value for name, value in metrics.items() if name not in ('mIoU', 'mAcc', 'aAcc')} == {
        'mBIoU': round(scores['mBIoU'], 2),
        'BIoU_dropped': round(scores['BIoU_dropped'], 2),
        'trimap_mIoU_3px': round(scores['trimap_mIoU']['3'], 2),
        'trimap_aAcc_3px': round(scores['trimap_aAcc']['3'], 2),
        'mF_2px': round(scores['F']['2'], 2),
        'F_dropped_2px': round(scores['F_dropped']['2'], 2),
    }
    assert f'3 images, mBIoU {metrics["mBIoU"]:.2f}' in capsys.readouterr().out


def test_two_processes_give_what_one_gives(tested, untrained, in_process, tmp_path):
    config, start = untrained
    command = [TOOLS / 'dist_test.sh', config, start, 2, '--work-dir', 'two']
    output = in_process(*command, cwd=tmp_path, PORT='29712')
    assert output.returncode == 0, output.stderr
    assert read_metrics(tmp_path / 'two') == pytest.approx(tested[0], abs=0.011)


def test_best_checkpoint_by_boundary_iou(write_config, run_tool, tmp_path):
    extra = (
        EXTRA + "val_evaluator = test_evaluator\ndefault_hooks['checkpoint'].update(save_best='mBIoU', rule='greater')"
    )
    run_tool('train', write_config(tmp_path, extra))
    assert (tmp_path / 'work' / 'best_mBIoU_iter_3.pth').is_file()


def test_settings_that_do_not_fit_are_one_line(write_config, fails_with, untrained, tmp_path):
    config = write_config(tmp_path, "test_evaluator = dict(type='BoundaryMetric', width_px=0)")
    assert 'width_px must be whole pixels, at least 1, got 0' in fails_with('test', config, untrained[1])


def test_classes_that_do_not_fit_are_one_line(write_config, fails_with, untrained, tmp_path):
    config = write_config(tmp_path, EXTRA + "test_dataloader['dataset']['metainfo'] = dict(classes=('a', 'b'))")
    message = fails_with('test', config, untrained[1], '--work-dir', tmp_path)
    assert "img_dir/val/0.png': the prediction contains class id 2, expected 0 to 1." in message


def test_scores_in_percent(folders, run_tool):
    result = evaluate(run_tool, folders, '--trimap-widths-px', 1, '--tolerances-px', 1, 3)
    assert result['num_images'] == 2
    assert result['settings']['width_px'] == 1
    # As counted by hand in the tests of the functions.
    assert result['BIoU'] == pytest.approx([100 * 18 / 36, 100 * 16 / 34])
    assert result['mBIoU'] == pytest.approx(np.mean(result['BIoU']))
    assert result['trimap_mIoU'] == {'1': pytest.approx(25)}
    assert result['F'] == {'1': 100, '3': 100}
    assert result['BIoU_dropped'] == 0


def test_width_as_share_of_the_diagonal(folders, run_tool):
    out = folders[0] / 'out.json'
    run_tool(TOOL, *folders, '--num-classes', 2, '--width-ratio', 0.005, '--json', out)
    assert json.loads(out.read_text())['mBIoU'] == evaluate(run_tool, folders)['mBIoU']


def test_a_class_that_is_nowhere_is_null(folders, run_tool):
    assert evaluate(run_tool, folders, '--num-classes', 3)['BIoU'][2] is None


def test_subfolders_and_suffixes(folders, run_tool, tmp_path):
    expected = evaluate(run_tool, folders)
    for index, city in enumerate('ab'):
        place = tmp_path / 'cities' / city
        write(place / f'{city}_{index}_gt.png', cv2.imread(str(folders[1] / f'{index}.png'), 0))
        write(place / f'{city}_{index}_color.png', np.zeros((3, 3)))
        (folders[0] / f'{index}.png').rename(folders[0] / f'{city}_{index}_img.png')
    suffixes = ['--gt-suffix', '_gt.png', '--pred-suffix', '_img.png']
    assert evaluate(run_tool, (folders[0], tmp_path / 'cities'), *suffixes) == expected


def test_palettes_and_zero_labels(folders, run_tool):
    expected = evaluate(run_tool, folders)
    for path in [path for folder in folders for path in folder.iterdir() if path.suffix == '.png']:
        image = Image.fromarray(np.array(Image.open(path)) + 1)
        image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
        image.save(path)
    assert evaluate(run_tool, folders, '--reduce-zero-label') == expected
    zero_is_void = evaluate(run_tool, folders, '--num-classes', 3, '--ignore-index', 0)
    assert zero_is_void['BIoU'] == [None, *expected['BIoU']]


def test_maps_larger_than_pillow_allows(folders, run_tool, monkeypatch):
    expected = evaluate(run_tool, folders)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(folders[0] / '0.png')
    assert evaluate(run_tool, folders) == expected


def test_void_of_zero_labels(folders, run_tool):
    label = np.array(Image.open(folders[1] / '0.png'))
    for index, void in enumerate((0, 255)):
        write(folders[1] / f'{index}.png', np.where(np.arange(10)[:, None] < 3, void, label + 1))
        write(folders[0] / f'{index}.png', label + 1)
    result = evaluate(run_tool, folders, '--reduce-zero-label')
    assert result['mBIoU'] == 100
    assert result['BIoU_dropped'] > 0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--gt-suffix', '.tif'], r"No labels (*.tif) in 'GT'."),
        (
            ['--pred-suffix', '_a.png'],
            "2 of 2 labels have no prediction: 'GT/0.png' needs 'PRED/0_a.png' (--pred-suffix",
        ),
        (['--num-classes', 1], "'PRED/0.png' and 'GT/0.png': the prediction contains class id 1, expected 0 to 0."),
        (['--num-classes', 0], 'num_classes must be from 1 to 65534, got 0.'),
        (['--width-px', 0], 'The options do not fit: width_px must be whole pixels, at least 1, got 0.'),
    ],
)
def test_options_that_do_not_fit(folders, fails_with, options, message):
    pred, gt = folders
    arguments = ['--num-classes', 2, '--width-px', 1, *options]
    assert message.replace('PRED', str(pred)).replace('GT', str(gt)) in fails_with(TOOL, pred, gt, *arguments)


@pytest.mark.parametrize('options', [[], ['--reduce-zero-label']])
def test_probabilities_instead_of_class_ids_are_refused(folders, fails_with, options):
    pred, gt = folders
    for path in gt.iterdir():
        write(path, np.ones((10, 10)))
        Image.fromarray(np.full((10, 10), 1.4, np.float32)).save(pred / f'{path.stem}.tif')
    value = '0.39999' if options else '1.39999'
    message = fails_with(TOOL, pred, gt, '--num-classes', 2, '--pred-suffix', '.tif', *options)
    assert f"'{pred}/0.tif' and '{gt}/0.png': the prediction contains class id {value}" in message


def test_files_that_do_not_fit(folders, fails_with, tmp_path):
    pred, gt = folders

    def message(*places):
        return fails_with(TOOL, *(places or folders), '--num-classes', 2)

    assert f"Folder '{tmp_path}/none' not found." in message(pred, tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    assert f"No labels (*.png) in '{tmp_path}/empty'." in message(pred, tmp_path / 'empty')
    (pred / '1.png').unlink()
    assert f"1 of 2 labels have no prediction: '{gt}/1.png' needs '{pred}/1.png'" in message()
    write(pred / '1.png', np.zeros((9, 10)))
    fault = 'prediction and label must have the same shape (H, W), got (9, 10)'
    assert f"'{pred}/1.png' and '{gt}/1.png': {fault}" in message()
    write(pred / '1.png', np.zeros((10, 10, 3)))
    assert f"'{pred}/1.png' has 3 channels, expected a label map with one." in message()
    (pred / '1.png').write_bytes(b'nonsense')
    assert f"'{pred}/1.png' cannot be read: " in message()
    write(gt / 'sub' / '0.png', np.zeros((10, 10)))
    assert f"'{pred}/0.png' matches two labels" in message()
