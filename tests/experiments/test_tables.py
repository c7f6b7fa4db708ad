"""Where runs of the configs here stand in the tables."""

import csv
import io
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cpg.experiments import paper
from mmseg_cpg.experiments.tables import make_tables
from mmseg_cpg.experiments.work_dirs import FINISHED, Result, Run

CONFIGS = Path(__file__).parents[2] / 'configs' / 'cpg'
BASELINE, CPG3 = 'deeplabv3_r50_cityscapes_baseline', 'deeplabv3_r50_cityscapes_cpg3'


@pytest.fixture(scope='module')
def make_run():
    """Make a run of a config here, changed by some options, with a result unless ``miou`` is None."""
    configs = {}

    def make(name, miou, work_dir='a', num_gpus=4, class_iou=(), **changes):
        if name not in configs:
            configs[name] = Config.fromfile(CONFIGS / f'{name}.py')
        cfg = deepcopy(configs[name])
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
        result = (
            None if miou is None else Result(cfg.train_cfg.max_epochs, miou, dict(IoU=dict(class_iou)), dict(mIoU=miou))
        )
        return Run(
            Path(work_dir).resolve(), '20260101_000000', cfg, num_gpus, result, 'stopped' if miou is None else FINISHED
        )

    return make


def read(table):
    """Read a table's CSV: its rows as dicts, by the cells that say what a row is about."""
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    width = {'table_1': 1, 'table_2': 2, 'table_3': 2, 'table_4': 1, 'runs': 1}[table.name]
    return {tuple(list(row.values())[:width]): row for row in rows}


def cells(table):
    """All cells of a table with results of runs."""
    return [cell for row in table.rows for column, cell in zip(table.columns, row, strict=True) if 'here' in column]


def test_without_runs_every_cell_says_so():
    *tables, runs = make_tables([])
    assert [table.name for table in tables] == ['table_1', 'table_2', 'table_3', 'table_4']
    assert [len(table.rows) for table in tables] == [20, 31, 9, 8]
    for table in tables:
        assert {str(cell) for cell in cells(table)} <= {'not run', 'not measured'}
    assert runs.rows == []


def test_the_papers_numbers_are_shown():
    table_1, table_2, table_3, table_4, _ = map(read, make_tables([]))
    assert table_1['pole',]['CE+CPG3, paper'] == '67.70'
    assert table_1['mIoU',]['CE+CPG7, paper'] == '79.50'
    assert table_2['no CPG', '0']['paper, floating-point boundary'] == '76.75'
    assert table_2['5', '8']['paper, floating-point boundary'] == '79.23'
    assert table_3['ADE20K', paper.OCRNET]['CE+CPG, paper'] == '47.66'
    assert table_4['BCE+RMI+CPG5',]['batch, s, paper'] == '+0.148'
    assert table_4['BCE',]['backward, s, paper'] == '1.634'
    kernels = {row["paper's kernel"] for row in table_3.values()}
    assert kernels == {'not stated', 'k = 3 (by Table 2)'}
    assert sum(row["paper's kernel"] == 'not stated' for row in table_3.values()) == 8


def test_runs_of_one_cell_are_averaged_and_counted(make_run):
    runs = [
        make_run(CPG3, 78.0, 'a', class_iou={'road': 90.0, 'bus': 80.0}),
        make_run(CPG3, 79.0, 'b', class_iou={'road': 91.0}, randomness__seed=1),
        make_run(BASELINE, 76.5),
    ]
    tables = make_tables(runs)
    assert [sum(str(cell)[0].isdigit() for cell in cells(table)) for table in tables[:4]] == [4, 2, 2, 2]
    table_1, table_2, table_3, table_4, listed = map(read, tables)
    assert (table_1['road',]['CE+CPG3, here'], table_1['road',]['CE+CPG3, here: runs']) == ('90.50', '2')
    assert (table_1['bus',]['CE+CPG3, here'], table_1['bus',]['CE+CPG3, here: runs']) == ('80.00', '1')
    assert table_1['car',]['CE+CPG3, here'] == 'not in the log'
    assert table_1['road',]['CE, here'] == 'not in the log'
    assert table_1['mIoU',]['CE, here'] == '76.50'
    assert table_2['3', '1']['here, exact boundary'] == '78.50'
    cell = table_3['Cityscapes', paper.DEEPLABV3]
    assert (cell['CE, here'], cell['CE+CPG3, here'], cell['CE+CPG3, here: runs']) == ('76.50', '78.50', '2')
    assert table_4['BCE+CPG3',]['mIoU, here'] == '78.50'
    assert listed['a',]['in the tables'] == '1, 2, 3, 4'
    assert '78.50 (mean of 2)' in tables[2].markdown()
    assert '78.50*' not in tables[2].markdown()


def test_other_weights_stand_in_table_2_alone(make_run):
    weight = 'model__decode_head__loss_decode__1__loss_weight'
    runs = [make_run(CPG3, 77.0, 'a', **{weight: 0.2}), make_run(CPG3, 60.0, 'b', **{weight: 7})]
    tables = make_tables(runs)
    assert [sum(str(cell)[0].isdigit() for cell in cells(table)) for table in tables[:4]] == [0, 2, 0, 0]
    table_2, listed = read(tables[1]), read(tables[4])
    assert table_2['3', '0.2']['here, exact boundary'] == '77.00'
    assert table_2['3', '7']['paper, floating-point boundary'] == 'not in the paper'
    assert listed['b',]['in the tables'] == '2'


def test_rmi_stands_in_table_4_alone(make_run):
    runs = [
        make_run('deeplabv3_r50_cityscapes_bce_rmi', 79.9, 'a'),
        make_run('deeplabv3_r50_cityscapes_bce_rmi_cpg7', 80.1, 'b'),
    ]
    tables = make_tables(runs)
    assert [sum(str(cell)[0].isdigit() for cell in cells(table)) for table in tables[:4]] == [0, 0, 0, 2]
    table_4, listed = read(tables[3]), read(tables[4])
    assert table_4['BCE+RMI',]['mIoU, here'] == '79.90'
    assert table_4['BCE+RMI+CPG7',]['mIoU, here'] == '80.10'
    for row in listed.values():
        assert row['in the tables'] == '4'
        assert row["differs from the paper's recipe in"] == '-'


def test_only_runs_trained_alike_are_averaged(make_run):
    short = dict(train_cfg__max_epochs=40)
    runs = [make_run(CPG3, 60.0, 'a', **short), make_run(CPG3, 78.0, 'b'), make_run(CPG3, 70.0, 'c', num_gpus=1)]
    tables = make_tables(runs)
    assert read(tables[2])['Cityscapes', paper.DEEPLABV3]['CE+CPG3, here'] == '78.00'
    listed = read(tables[4])
    assert listed['b',]['in the tables'] == '1, 2, 3, 4'
    assert 'not trained like b/20260101_000000' in listed['a',]['in the tables']
    assert 'train_cfg.max_epochs: 175, 40' in listed['a',]['in the tables']
    assert 'GPUs: 4, 1' in listed['c',]['in the tables']
    assert listed['c',]["differs from the paper's recipe in"] == 'total batch 3 (recipe: 12)'


def test_what_differs_from_the_recipe_is_marked(make_run):
    tables = make_tables([make_run(CPG3, 60.0, train_cfg__max_epochs=40)])
    assert ' 60.00* ' in tables[2].markdown()
    assert read(tables[2])['Cityscapes', paper.DEEPLABV3]['CE+CPG3, here'] == '60.00'
    assert read(tables[4])['a',]["differs from the paper's recipe in"] == '40 epochs (recipe: 175 epochs)'


def test_a_run_without_a_result_or_a_cell_is_listed_with_the_reason(make_run):
    runs = [make_run(CPG3, None, 'a'), make_run(CPG3, 50.0, 'b', model__backbone__depth=101)]
    tables = make_tables(runs)
    assert not any(str(cell)[0].isdigit() for table in tables[:4] for cell in cells(table))
    listed = read(tables[4])
    assert listed['a',]['in the tables'] == 'no, stopped'
    assert listed['b',]['in the tables'] == 'no, not in the paper: its network is ResNetV1c + ASPPHead'
    assert listed['b',]['mIoU, %'] == '50.00'
