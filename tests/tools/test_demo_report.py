"""The page's numbers are the metrics', its links lead somewhere, and what it shows does not hang on predictions."""

import re
import shutil
from argparse import Namespace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_cpg import visualization
from mmseg_cpg.cli.config import load_config
from mmseg_cpg.cli.runner import build_runner
from mmseg_cpg.evaluation.boundary import trimap_band

REPORT = 'analysis/demo_report'
BOUNDARY_METRIC = (
    "val_evaluator = [val_evaluator, dict(type='mmseg_cpg.BoundaryMetric')]\ntest_evaluator = val_evaluator\n"
)
LENGTH = "train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)\nparam_scheduler = []\n"
CPG = """
model['decode_head']['loss_decode'] = [dict(type='CrossEntropyLoss'), dict(type='mmseg_cpg.CPGLoss')]
"""


@pytest.fixture(scope='module')
def trained(write_config, tmp_path_factory):
    """Two work dirs after an iteration of training, moved from where they were trained, and their metrics."""
    folder = tmp_path_factory.mktemp('runs')
    found = SimpleNamespace(work_dirs=[], metrics=[])
    for name, extra in (('ce', ''), ('cpg', CPG)):
        path = write_config(folder, f'{BOUNDARY_METRIC}{LENGTH}{extra}', f'{name}.py')
        work_dir = str(folder / 'before' / name)
        runner = build_runner(load_config(Namespace(config=path, cfg_options=None, launcher='none', work_dir=work_dir)))
        runner.train()
        found.metrics.append(runner.test())
        found.work_dirs.append(folder / 'after' / name)
    shutil.move(folder / 'before', folder / 'after')
    assert found.metrics[0] != found.metrics[1]
    return found


class Page(HTMLParser):
    """The rows of the tables of a page, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.in_cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ('src', 'href')]
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self.tables[-1][-1].append('')
        self.in_cell = tag in ('td', 'th')

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.tables[-1][-1][-1] += data


@pytest.fixture
def page(trained, run_tool, tmp_path, capsys):
    run_tool(REPORT, *trained.work_dirs, '--out', tmp_path, '--num-tiles', '2')
    page = Page((tmp_path / 'index.html').read_text())
    page.printed = capsys.readouterr().out
    return page


def test_the_numbers_are_those_of_the_metrics(page, trained):
    scores, class_scores, how = page.tables
    ce, cpg = trained.metrics
    names = ['mIoU', 'mBIoU', *(f'mF_{size_px}px' for size_px in (1, 3, 5, 9)), 'trimap_aAcc_3px']
    dropped = ['BIoU_dropped', *(f'F_dropped_{size_px}px' for size_px in (1, 3, 5, 9))]
    dropped = ['–', *(f'{ce[name]:.2f}' for name in dropped), '–']
    assert scores[0] == ['in percent', 'CE', 'CE + CPG', 'difference', 'excluded near void']
    for row, name, drop in zip(scores[1:], names, dropped, strict=True):
        expected = f'{ce[name]:.2f}', f'{cpg[name]:.2f}', f'{cpg[name] - ce[name]:+.2f}', drop
        assert tuple(row[1:]) == expected, name
    for row in scores:
        assert re.search(r' *\| *'.join(map(re.escape, row)), page.printed)
    header, *rows = class_scores
    assert [row[0] for row in rows] == ['a', 'b', 'c']
    means = np.nanmean([[np.nan if cell == '–' else float(cell) for cell in row[1:]] for row in rows], axis=0)
    expected = [run[name] for name in ('mIoU', 'mBIoU', 'mF_3px') for run in (ce, cpg)]
    np.testing.assert_allclose(means, expected, atol=0.011)
    assert header[1:3] == ['IoU: CE', 'IoU: CE + CPG']
    assert ['length', '1 iters', '1 iters'] in how
    assert ['seed', '0', '0'] in how


def test_the_figures_are_next_to_the_page(page, tmp_path):
    names = ['overview', 'comparison', 'errors', 'gradients', 'profile', 'boundaries']
    assert page.links == [f'{name}.png' for name in names]
    for link in page.links:
        with Image.open(tmp_path / link) as image:
            assert np.asarray(image).std() > 0


def test_what_is_shown_is_chosen_by_the_labels(trained, run_tool, tmp_path, monkeypatch):
    calls = []
    for name in ('draw_overview', 'draw_profile'):
        draw = getattr(visualization, name)
        monkeypatch.setattr(visualization, name, lambda *args, draw=draw: calls.append(args) or draw(*args))
    shown = []
    for work_dirs in (trained.work_dirs, trained.work_dirs[::-1]):
        calls.clear()
        run_tool(REPORT, *work_dirs, '--out', tmp_path, '--num-tiles', '2')
        (scenes, *_), (scene, *place) = calls
        shown.append(([each.label.tolist() for each in [*scenes, scene]], place))
    assert shown[0] == shown[1]
    labels = [np.array(label) for label in shown[0][0]]
    sizes = [trimap_band(label.astype(np.uint8), 3, 255).sum() for label in labels]
    assert sizes[0] > sizes[1] == sizes[2]  # of three images the second one is the median


@pytest.mark.parametrize('missing', ['work_dir', 'iter_1.pth', 'config'])
def test_what_is_missing_is_named(trained, fails_with, tmp_path, missing):
    work_dir = tmp_path / 'run'
    if missing != 'work_dir':
        shutil.copytree(trained.work_dirs[0], work_dir)
        for path in work_dir.glob('*.py' if missing == 'config' else missing):
            path.unlink()
    message = fails_with(REPORT, work_dir, trained.work_dirs[1], '--out', tmp_path / 'out')
    assert str(work_dir) in message
    expected = dict(work_dir='no checkpoint', config='one config (*.py), but contains 0').get(missing, missing)
    assert expected in message
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('content', [None, b'', b'\xff\x00', b'/gone/iter_9.pth'])
def test_a_run_without_a_usable_last_checkpoint(trained, run_tool, tmp_path, content):
    work_dir = shutil.copytree(trained.work_dirs[0], tmp_path / 'run')
    record = work_dir / 'last_checkpoint'
    record.unlink() if content is None else record.write_bytes(content)
    run_tool(REPORT, work_dir, trained.work_dirs[1], '--out', tmp_path / 'out')
    assert (tmp_path / 'out' / 'index.html').is_file()


def test_runs_with_the_same_losses_are_named_by_their_work_dirs(trained, run_tool, fails_with, tmp_path):
    first = trained.work_dirs[0]
    second = shutil.copytree(first, tmp_path / 'again')
    run_tool(REPORT, first, second, '--out', tmp_path / 'out')
    class_scores = Page((tmp_path / 'out' / 'index.html').read_text()).tables[1]
    assert class_scores[0][1:3] == [f'IoU: {first}', f'IoU: {second}']
    same = f'{first}/../{first.name}'
    assert fails_with(REPORT, first, same) == f"Error: '{first}' and '{same}' are the same work dir."


def test_a_diverged_run_is_not_compared(trained, fails_with, tmp_path):
    work_dir = shutil.copytree(trained.work_dirs[0], tmp_path / 'run')
    for log in work_dir.glob('*/vis_data/*.json'):
        log.write_text(re.sub(r'"loss": [\d.]+', '"loss": NaN', log.read_text()))
    message = fails_with(REPORT, work_dir, trained.work_dirs[1], '--out', tmp_path / 'out')
    assert message == f"Error: '{work_dir}' cannot be compared: its training run diverged: loss nan at iteration 1."


def test_a_run_saved_without_its_optimizer_is_compared(trained, run_tool, tmp_path):
    work_dir = shutil.copytree(trained.work_dirs[0], tmp_path / 'run')
    checkpoint = torch.load(work_dir / 'iter_1.pth', weights_only=False)
    del checkpoint['optimizer']
    torch.save(checkpoint, work_dir / 'iter_1.pth')
    run_tool(REPORT, work_dir, trained.work_dirs[1], '--out', tmp_path / 'out')
    assert (tmp_path / 'out' / 'index.html').is_file()


def test_bad_files_and_folders_are_one_line(trained, fails_with, data_root, tmp_path):
    (tmp_path / 'file').touch()
    assert "file' is a file, not a folder. Choose another --out." in fails_with(
        REPORT, *trained.work_dirs, '--out', tmp_path / 'file'
    )
    label = data_root / 'ann_dir' / 'val' / '1.png'
    content = label.read_bytes()
    try:
        label.write_bytes(content[:50])
        assert f"Label '{label}' cannot be read (" in fails_with(REPORT, *trained.work_dirs, '--out', tmp_path / 'out')
    finally:
        label.write_bytes(content)


def test_another_id_of_void(trained, data_root, run_tool, fails_with, tmp_path):
    labels = shutil.copytree(data_root, tmp_path / 'data') / 'ann_dir' / 'val'
    folders = []
    for work_dir in trained.work_dirs:
        folders.append(shutil.copytree(work_dir, tmp_path / work_dir.name))
        (config,) = folders[-1].glob('*.py')
        text = config.read_text().replace(str(data_root), str(tmp_path / 'data'))
        config.write_text(text.replace('num_classes=3', 'num_classes=3, ignore_index=2'))
    assert "0.png': the label contains class id 255" in fails_with(REPORT, *folders, '--out', tmp_path / 'out')
    for path in labels.iterdir():
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label == 255, 2, label)).save(path)
    run_tool(REPORT, *folders, '--out', tmp_path / 'out')
    # A row of 32 pixels and the class 'c', 6 x 20, of 32 x 32.
    assert '14.8 % of the pixels are void' in (tmp_path / 'out' / 'index.html').read_text()


def test_no_tiles(trained, fails_with):
    assert '--num-tiles must be at least 1, got 0' in fails_with(REPORT, *trained.work_dirs, '--num-tiles', '0')
