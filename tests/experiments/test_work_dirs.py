"""Work dirs as MMEngine leaves them after odd courses of events, written by hand.

tests/tools/test_paper_tables.py reads what a real training leaves.
"""

import json

import pytest
from mmengine.config import Config

from mmseg_cpg.cli.errors import UserError
from mmseg_cpg.experiments.work_dirs import FINISHED, find_runs, find_work_dirs, read_runs, read_scalars

FIRST, SECOND, THIRD = (f'20260101_00000{second}' for second in (1, 2, 3))
TABLE = """2026/01/01 00:00:09 - mmengine - INFO -
+---------------+-------+-------+
|     Class     |  Acc  |  IoU  |
+---------------+-------+-------+
|      road     |  90.0 | {:5} |
| traffic light |  10.0 | {:5} |
|      bus      |  nan  |  nan  |
+---------------+-------+-------+
"""


def write_session(work_dir, started, rows=(), log='', test=None, total=3, unit='epoch', **settings):
    """Write a session's folder: a training run with the rows of its scalars, or a test with its metrics."""
    folder = work_dir / started
    (folder / 'vis_data').mkdir(parents=True)
    cfg = dict(model=dict(type='EncoderDecoder'), train_cfg={f'max_{unit}s': total}, resume=False)
    Config(cfg | settings).dump(folder / 'vis_data' / 'config.py')
    (folder / f'{started}.log').write_text(f'Runtime environment:\n    GPU number: 4\n{log}')
    if test is None:
        (folder / 'vis_data' / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    else:
        (folder / f'{started}.json').write_text(json.dumps(test))
    return folder


def loss(step):
    return dict(loss=1.0, epoch=step, iter=10 * step, step=10 * step)


def val(step, miou=50.0):
    return dict(aAcc=90.0, mIoU=miou, step=step)


def test_the_last_validation_counts(tmp_path):
    log = TABLE.format(20.0, 40.0) + 'mIoU: 30.0\n' + TABLE.format(40.0, 60.01) + 'mIoU: 50.0\n'
    write_session(tmp_path, FIRST, [loss(1), val(1, 30.0), loss(2), val(2, 80.0), loss(3), val(3)], log)
    (run,) = read_runs(tmp_path)
    assert (run.work_dir, run.started, run.num_gpus, run.state) == (tmp_path, FIRST, 4, FINISHED)
    assert run.result.miou == 50
    assert run.result.class_iou == {
        'road': 40.0,
        'traffic light': 60.01,
        'bus': pytest.approx(float('nan'), nan_ok=True),
    }


@pytest.mark.parametrize(
    ('rows', 'state'),
    [
        ([loss(1)], 'not evaluated yet'),
        ([], 'not evaluated yet'),
        ([loss(1), val(1), loss(2), val(2), loss(3)], 'not finished: evaluated at epoch 2 of 3'),
    ],
)
def test_before_the_end_there_is_no_result(tmp_path, rows, state):
    write_session(tmp_path, FIRST, rows)
    (run,) = read_runs(tmp_path)
    assert (run.result, run.state) == (None, state)


@pytest.mark.parametrize('rest', ['{"aAcc": 90.0, "mIo', '"text"\n', '\n\n', '[1]\n\x00\x00'])
def test_lines_that_a_crash_broke_are_skipped(tmp_path, rest):
    with (write_session(tmp_path, FIRST, [val(1)], total=1) / 'vis_data' / 'scalars.json').open('a') as file:
        file.write(rest)
    assert read_runs(tmp_path)[0].result.miou == 50


def test_a_resumed_training_is_one_run(tmp_path):
    write_session(tmp_path, FIRST, [val(1), val(2)], seed=1)
    write_session(tmp_path, SECOND, [loss(2)], resume=True, seed=2)
    write_session(tmp_path, THIRD, [val(2), val(3, 60.0)], resume=True, seed=3)
    (run,) = read_runs(tmp_path)
    assert (run.started, run.result.miou, run.cfg.seed) == (FIRST, 60, 3)


def test_trainings_that_share_a_work_dir_are_runs_of_their_own(tmp_path):
    write_session(tmp_path, FIRST, [val(3, 40.0)])
    write_session(tmp_path, SECOND, [val(1)])
    write_session(tmp_path, THIRD, [val(3, 60.0)])
    assert [run.result and run.result.miou for run in read_runs(tmp_path)] == [40, None, 60]


@pytest.mark.parametrize(
    ('load_from', 'state'),
    [
        ('work_dirs/x/epoch_3.pth', FINISHED),
        ('best_mIoU_epoch_2.pth', 'not finished: evaluated at epoch 2 of 3'),
        ('weights.pth', 'not finished: evaluated at epoch ? of 3'),
        (None, 'not finished: evaluated at epoch ? of 3'),
    ],
)
@pytest.mark.parametrize('trained_here', [True, False])
def test_a_test_of_the_last_checkpoint_is_a_result(tmp_path, load_from, state, trained_here):
    if trained_here:
        write_session(tmp_path, FIRST, [val(1, 10.0), loss(3)])
    write_session(tmp_path, SECOND, test=dict(mIoU=50.0), load_from=load_from)
    (run,) = read_runs(tmp_path)
    assert (run.state, run.result and run.result.miou) == (state, 50 if state == FINISHED else None)
    assert run.num_gpus == (4 if trained_here else None)  # a test does not say how many trained


def test_a_test_replaces_validation_only_for_its_class_iou(tmp_path):
    checkpoint = dict(load_from='epoch_3.pth')
    write_session(tmp_path, FIRST, [val(3, 50.0)])
    write_session(tmp_path, SECOND, test=dict(mIoU=55.0), **checkpoint)
    assert read_runs(tmp_path)[0].result.miou == 50
    write_session(tmp_path, THIRD, test=dict(mIoU=50.01), log=TABLE.format(40.0, 60.02), **checkpoint)
    result = read_runs(tmp_path)[0].result
    assert (result.miou, result.class_iou['road']) == (50.01, 40)


def test_test_time_augmentation_is_no_result(tmp_path):
    write_session(tmp_path, FIRST, test=dict(mIoU=50.0), load_from='epoch_3.pth', model=dict(type='SegTTAModel'))
    assert read_runs(tmp_path) == []


@pytest.mark.parametrize(
    'table', [TABLE.format(40.0, 60.1), TABLE.replace('IoU', 'Dice').format(40.0, 60.0), TABLE.format('-', 50.0)]
)
def test_a_class_table_that_is_not_of_this_miou_is_left_out(tmp_path, table):
    write_session(tmp_path, FIRST, [val(3)], log=table)
    assert read_runs(tmp_path)[0].result.class_iou == {}


def test_class_scores_of_boundaries(tmp_path):
    boundaries = (
        '+-------+------+-------+\n| Class | BIoU | F 3px |\n+-------+------+-------+\n| road | 1.0 | 2.0 |\n'
        '| mean | 3.0 | 4.0 |\n+-------+------+-------+\n| mean | 5.0 | 6.0 |\n+-------+------+-------+\n'
    )
    log = (
        TABLE.format(0.0, 0.0) + boundaries + 'mIoU\n' + TABLE.format(40.0, 60.0) + f'per class results:\n{boundaries}'
    )
    write_session(tmp_path, FIRST, [val(3)], log=log)
    scores = read_runs(tmp_path)[0].result.class_scores
    assert scores['IoU']['road'] == 40
    assert (scores['BIoU'], scores['F 3px']) == ({'road': 1.0, 'mean': 3.0}, {'road': 2.0, 'mean': 4.0})


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_training_whose_loss_is_not_finite_diverged(tmp_path, value):
    write_session(tmp_path, FIRST, [loss(1), loss(2) | dict(loss=value), val(2), loss(3), val(3)])
    (run,) = read_runs(tmp_path)
    assert (run.result, run.state) == (None, f'diverged: loss {value} at iteration 20')
    assert run.has_ended


def test_without_a_log(tmp_path):
    (write_session(tmp_path, FIRST, [val(3)]) / f'{FIRST}.log').unlink()
    (run,) = read_runs(tmp_path)
    assert (run.num_gpus, run.result.miou, run.result.class_iou) == (None, 50, {})


@pytest.mark.parametrize(
    ('unit', 'by_epoch', 'rows'),
    [
        ('epoch', None, [loss(3), val(3)]),
        ('epoch', False, [loss(3), val(30)]),
        ('iter', False, [loss(3), val(30)]),
        ('iter', None, [loss(3), val(0)]),
    ],
)
def test_steps_that_do_not_count_what_training_does(tmp_path, unit, by_epoch, rows):
    logger = {} if by_epoch is None else dict(log_metric_by_epoch=by_epoch)
    total = {'epoch': 3, 'iter': 30}[unit]
    write_session(tmp_path / 'a', FIRST, rows, unit=unit, total=total, default_hooks=dict(logger=logger))
    write_session(tmp_path / 'b', FIRST, rows, unit=unit, total=total + 1, default_hooks=dict(logger=logger))
    assert [run.state == FINISHED for name in 'ab' for run in read_runs(tmp_path / name)] == [True, False]


@pytest.mark.parametrize('text', ['model = dict(', None])
def test_a_lost_config_is_looked_for_in_the_work_dir(tmp_path, text):
    path = write_session(tmp_path, FIRST, [val(3)]) / 'vis_data' / 'config.py'
    whole = path.read_text()
    path.unlink() if text is None else path.write_text(text)
    assert read_runs(tmp_path) == []
    (tmp_path / 'config.py').write_text(whole)
    assert read_runs(tmp_path)[0].state == FINISHED


def test_the_code_that_a_config_names_is_not_imported(tmp_path):
    write_session(tmp_path, FIRST, [val(3)], custom_imports=dict(imports=['none.such']))
    assert read_runs(tmp_path)[0].state == FINISHED


def test_work_dirs_are_found_at_any_depth_and_once(tmp_path):
    for name in ('a', 'b/lambda_1', 'b/lambda_2'):
        write_session(tmp_path / name, FIRST, [val(3)])
        write_session(tmp_path / name, SECOND, [val(3)])
    (tmp_path / 'c' / '2026').mkdir(parents=True)
    assert [path.relative_to(tmp_path).as_posix() for path in find_work_dirs(tmp_path)] == [
        'a',
        'b/lambda_1',
        'b/lambda_2',
    ]
    assert find_work_dirs(tmp_path / 'a') == [tmp_path / 'a']
    assert find_work_dirs(tmp_path / 'none') == []


def test_scalars_by_iteration(tmp_path):
    rows = [loss(1) | dict(time=0.5), val(1, 30.0) | dict(time=0.1), loss(2) | dict(time=0.4), val(2, 80.0)]
    write_session(tmp_path, FIRST, rows)
    scalars = read_scalars(read_runs(tmp_path)[0])
    assert scalars['loss'] == {10: 1.0, 20: 1.0}
    assert scalars['mIoU'] == {10: 30.0, 20: 80.0}
    assert scalars['time'] == {10: 0.5, 20: 0.4}


def test_what_a_resumption_trains_again_counts_once(tmp_path):
    write_session(tmp_path, FIRST, [loss(1), val(1, 10.0), loss(2), loss(3), val(3, 30.0)])
    write_session(tmp_path, SECOND, [loss(2) | dict(loss=2.0), loss(4) | dict(loss=4.0)], resume=True)
    write_session(tmp_path, THIRD, test=dict(mIoU=50.0), load_from='epoch_3.pth')
    scalars = read_scalars(read_runs(tmp_path)[0])
    assert scalars['loss'] == {10: 1.0, 20: 2.0, 40: 4.0}
    assert scalars['mIoU'] == {10: 10.0}


@pytest.mark.parametrize(('by_epoch', 'expected'), [(False, 30), (None, 20)])
def test_validations_are_at_their_iteration_where_the_log_tells_it(tmp_path, by_epoch, expected):
    logger = {} if by_epoch is None else dict(log_metric_by_epoch=by_epoch)
    write_session(tmp_path, FIRST, [loss(2), val(30)], unit='iter', default_hooks=dict(logger=logger))
    assert read_scalars(read_runs(tmp_path)[0])['mIoU'] == {expected: 50.0}


def test_runs_of_several_folders(tmp_path, capsys):
    for name in ('a', 'b'):
        write_session(tmp_path / name, FIRST, [val(3)])
    (tmp_path / 'c' / FIRST).mkdir(parents=True)
    runs = find_runs([tmp_path / 'a', tmp_path])
    assert [run.work_dir.name for run in runs] == ['a', 'b']
    assert [run.sessions for run in runs] == [(tmp_path / name / FIRST,) for name in 'ab']
    assert f"No results in '{tmp_path / 'c'}'" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"No work dir in '.*none': expected a folder named by its time"):
        find_runs([tmp_path / 'none'])
