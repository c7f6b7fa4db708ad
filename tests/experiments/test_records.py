"""The record of training runs: written whole, by several processes, and for one config of a name."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from mmengine.config import Config

from mmseg_cpg.cli.errors import UserError
from mmseg_cpg.experiments import files, records
from mmseg_cpg.experiments.records import ABOUT, Record, fingerprint, provenance, read_row

ADD = """
import sys
from mmseg_cpg.experiments.records import ABOUT, Record
for seed in range(10):
    Record(sys.argv[1]).add(dict.fromkeys(ABOUT, '') | dict(config=sys.argv[2], losses='base', seed=seed))
"""


def row(**values):
    return dict.fromkeys(ABOUT, '') | dict(config='c', losses='base', seed=0, title='CE', state='finished') | values


def test_rows_come_back_and_new_columns_join(tmp_path):
    record = Record(tmp_path / 'new' / 'all.csv')
    assert record.rows() == []
    record.add(row(mIoU=51.25, step_ms=None))
    record.add(row(seed=1, **{'IoU: a, "b"': 3.0}))
    first, second = record.rows()
    assert (first['mIoU'], first['step_ms'], first['IoU: a, "b"']) == ('51.25', '', '')
    assert (second['mIoU'], second['IoU: a, "b"']) == ('', '3')
    assert record.find('c', 'base', 1) == second
    assert record.find('c', 'base', 2) is None
    record.add(row(mIoU=60.0))
    assert [(each['seed'], each['mIoU']) for each in record.rows()] == [('1', ''), ('0', '60')]
    training = read_row(record.find('c', 'base', 0), 'folder')
    assert (training.losses, training.seed, training.values['mIoU']) == ('CE', 0, 60)
    assert read_row(row(state='diverged: loss nan at iteration 3', mIoU='60'), '').values == {}


def test_several_processes_add_rows(tmp_path):
    path = tmp_path / 'all.csv'

    def add(config):
        subprocess.run([sys.executable, '-c', ADD, path, config], check=True)

    with ThreadPoolExecutor() as pool:
        list(pool.map(add, ['first', 'second']))
    assert len(Record(path).rows()) == 20


def test_a_full_disk_leaves_the_record_as_it_was(tmp_path, monkeypatch):
    record = Record(tmp_path / 'all.csv')
    record.add(row())

    def fail(*_):
        raise OSError('No space left on device')

    monkeypatch.setattr(files.os, 'replace', fail)
    with pytest.raises(OSError, match='No space left'):
        record.add(row(seed=1))
    assert len(record.rows()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {'all.csv', '.all.csv.lock'}


def test_another_file_is_no_record(tmp_path):
    path = tmp_path / 'all.csv'
    path.write_text('a,b\n1,2\n')
    with pytest.raises(UserError, match=r"all\.csv' is not a record of training runs: it has no column 'config'"):
        Record(path).rows()


def test_what_cannot_be_read_is_named(tmp_path):
    path = tmp_path / 'all.csv'
    path.write_bytes(b'config,losses\xff\n')
    with pytest.raises(UserError, match=r"all\.csv' cannot be read \(UnicodeDecodeError: "):
        Record(path).rows()
    with pytest.raises(UserError, match=r"' cannot be read \(IsADirectoryError: "):
        Record(tmp_path).rows()


def make_config(**changes):
    cfg = Config(
        dict(
            model=dict(decode_head=dict(num_classes=3, loss_decode=dict(type='CrossEntropyLoss'))),
            train_dataloader=dict(batch_size=2, num_workers=1, dataset=dict(data_root='here')),
            randomness=dict(seed=0),
        )
    )
    cfg.merge_from_dict({name.replace('__', '.'): value for name, value in changes.items()})
    return fingerprint(cfg)


def test_a_fingerprint_is_that_of_the_training():
    same = make_config()
    # 'base' in the record stands for the losses of the config.
    assert make_config(model__decode_head__loss_decode=dict(type='DiceLoss')) != same
    assert make_config(randomness__seed=1, train_dataloader__dataset__data_root='there') == same
    assert make_config(train_dataloader__num_workers=4) == same
    assert make_config(train_dataloader__batch_size=4) != same
    assert make_config(model__decode_head__num_classes=4) != same


PURE = """
from mmengine.dataset import pseudo_collate
from mmseg.models import CrossEntropyLoss
model = dict(decode_head=dict(loss_decode=dict(type=CrossEntropyLoss)))
train_dataloader = dict(batch_size=2, collate_fn=dict(type=pseudo_collate))
"""


def test_a_fingerprint_of_classes_and_functions_is_that_of_their_names(tmp_path):
    """An address in memory differs in every process."""
    path = tmp_path / 'pure.py'
    path.write_text(PURE)
    command = (
        'import sys\nfrom mmengine.config import Config\n'
        'from mmseg_cpg.experiments.records import fingerprint\nprint(fingerprint(Config.fromfile(sys.argv[1])))'
    )
    found = [
        subprocess.run([sys.executable, '-c', command, path], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1] != ''
    path.write_text(PURE.replace('CrossEntropyLoss', 'DiceLoss'))
    assert fingerprint(Config.fromfile(path)) != found[0].strip()


def test_provenance():
    found = provenance()
    assert found['commit'] == '' or len(found['commit'].removesuffix('-dirty')) == 12
    assert found['torch']
    assert found['device']


def test_a_commit_of_the_project_around_an_installation_is_not_recorded(tmp_path, monkeypatch):
    git = ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c', 'user.email=a@b']
    subprocess.run([*git, 'init', '-q'], check=True)
    subprocess.run([*git, 'commit', '-q', '--allow-empty', '-m', 'theirs'], check=True)
    packages = tmp_path / 'site-packages'
    packages.mkdir()
    monkeypatch.setattr(records, 'ROOT', packages)
    assert provenance.__wrapped__()['commit'] == ''
    monkeypatch.setattr(records, 'ROOT', tmp_path)
    assert len(provenance.__wrapped__()['commit']) == 12
