"""Costs read from logs written by hand."""

import json

import pytest
from mmengine.config import Config

from mmseg_cpg.experiments.costs import WARM_UP_ITERS, Costs, read_costs
from mmseg_cpg.experiments.work_dirs import read_runs

WARM = WARM_UP_ITERS + 10


@pytest.fixture
def costs_of(tmp_path):
    """The costs of a training run that logged some rows."""

    def read(*rows, resumed=()):
        for started, session, resume in (('20260101_000001', rows, False), ('20260101_000002', resumed, True)):
            folder = tmp_path / started / 'vis_data'
            folder.mkdir(parents=True)
            Config(dict(train_cfg=dict(max_iters=99), resume=resume)).dump(folder / 'config.py')
            (folder / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in session))
        (run,) = read_runs(tmp_path)
        return read_costs(run)

    return read


def row(at, time, data_time=0.25, **others):
    return dict(loss=1.0, iter=at, step=at, time=time, data_time=data_time, **others)


def test_a_step_does_not_wait_for_its_data(costs_of):
    rows = [row(WARM + 1, 1.0, 0.25), row(WARM + 2, 2.0, 1.0), row(WARM + 3, 9.0, 0.75)]
    assert costs_of(*rows) == Costs(1000.0, 750.0, None)


def test_the_first_iterations_are_left_out_if_there_are_others(costs_of):
    assert costs_of(row(10, 9.0), row(WARM_UP_ITERS, 9.0), row(WARM, 1.25)).step_ms == 1000


def test_a_short_training_has_no_others(costs_of):
    assert costs_of(row(5, 2.25), row(10, 1.25), row(15, 1.75)).step_ms == 1500


def test_times_of_validations_are_none_of_training(costs_of):
    val = dict(mIoU=50.0, step=0, time=70.0, data_time=10.0)
    assert costs_of(row(WARM, 1.25), val, row(WARM + 1, 1.25)).step_ms == 1000


def test_memory_is_the_highest_before_the_first_validation(costs_of):
    rows = [row(10, 1, memory=100), row(20, 1, memory=300), row(30, 1, memory=200)]
    after = [dict(mIoU=50.0, step=0), row(40, 1, memory=9000)]
    assert costs_of(*rows, *after, resumed=[row(50, 1, memory=9000)]).memory_mib == 300


def test_memory_of_a_training_that_was_stopped_before_its_validation(costs_of):
    assert costs_of(row(10, 1, memory=100), resumed=[row(20, 1, memory=200), dict(mIoU=5.0, step=0)]).memory_mib == 200


def test_a_log_that_does_not_tell(costs_of):
    assert costs_of(dict(loss=1.0, iter=1, step=1), dict(mIoU=50.0, step=0)) == Costs(None, None, None)
