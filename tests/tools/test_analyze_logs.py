"""The tool on work dirs written by hand."""

import json

import cv2
import pytest
from mmengine.config import Config

MODEL = dict(decode_head=dict(loss_decode=dict(type='CPGLoss')))


@pytest.fixture
def work_dirs(tmp_path):
    """Two training runs; only the second one logged shares."""
    for name, extra in (('first', {}), ('second', dict(cpg_share=0.5))):
        folder = tmp_path / 'work_dirs' / name / '20260101_000000' / 'vis_data'
        folder.mkdir(parents=True)
        Config(dict(model=MODEL, train_cfg=dict(max_iters=20))).dump(folder / 'config.py')
        rows = [dict(loss=1.0 / step, iter=step, step=step, **extra) for step in (10, 20)]
        (folder / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return tmp_path / 'work_dirs'


def test_plots_what_was_logged(work_dirs, run_tool, tmp_path, capsys):
    out = tmp_path / 'plots' / 'curves.png'
    run_tool('analysis/analyze_logs', work_dirs, '--out', out)
    assert capsys.readouterr().out == f'Written to {out}.\n'
    one = cv2.imread(str(out))
    run_tool('analysis/analyze_logs', work_dirs, '--keys', 'loss', 'cpg_share', '--legend', 'a', 'b', '--out', out)
    assert cv2.imread(str(out)).shape == one.shape
    run_tool('analysis/analyze_logs', work_dirs / 'first', '--out', out)
    assert cv2.imread(str(out)).shape[1] < one.shape[1]


def test_mistakes_are_named(work_dirs, fails_with, tmp_path):
    assert "No run has logged 'los'. The logs contain cpg_share, iter, loss, step." in fails_with(
        'analysis/analyze_logs', work_dirs, '--keys', 'los'
    )
    message = fails_with('analysis/analyze_logs', work_dirs, '--legend', 'a')
    assert (
        '--legend needs a name for each of 2 runs (first/20260101_000000, second/20260101_000000), but got 1.'
        in message
    )
    assert "No work dir in '" in fails_with('analysis/analyze_logs', tmp_path / 'none')


def test_tests_are_no_training(work_dirs, fails_with):
    for name in ('first', 'second'):
        folder = work_dirs / name / '20260101_000000'
        (folder / 'vis_data' / 'scalars.json').unlink()
        (folder / '20260101_000000.json').write_text('{"mIoU": 41.5}\n')
    assert 'These work dirs contain only tests, no training.' in fails_with('analysis/analyze_logs', work_dirs)
