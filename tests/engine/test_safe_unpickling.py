"""What MMEngine's logs are made of survives loading, and nothing else gets through."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmseg_cpg.engine.safe_unpickling import allow_training_logs

from .forged_pickles import FORGED, PROTO, STOP, array, call, data, dtype, from_core, history, in_archive, shape

# In a process of its own, since what gets through may crash it.
LOAD_ALL = """
import pickle, sys
from pathlib import Path
import torch
from mmseg_cpg.engine.safe_unpickling import allow_training_logs
allow_training_logs()
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, flush=True)
    try:
        loaded = torch.load(path, 'cpu')
    except (pickle.UnpicklingError, TypeError, AttributeError):
        print('refused', flush=True)
    else:
        print('loaded', repr(loaded), flush=True)
"""


@pytest.fixture
def load():
    allow_training_logs()

    def reload(value):
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    return reload


def test_forged_pickles_are_refused(tmp_path):
    names = {f'{index:03}.pth': name for index, name in enumerate(FORGED)}
    for path, name in names.items():
        (tmp_path / path).write_bytes(in_archive(PROTO + FORGED[name] + STOP))
    output = subprocess.run([sys.executable, '-c', LOAD_ALL, tmp_path], capture_output=True, text=True)
    lines = output.stdout.splitlines()
    lines = lines[lines.index('000.pth') :]  # OneDL's fork prints a line when it is imported
    last = names.get(lines[-1] if lines[-1] in names else lines[-2])
    assert output.returncode == 0, f'{last}: {output.stderr}'
    results = {names[path]: result for path, result in zip(lines[::2], lines[1::2], strict=True)}
    assert {name: result for name, result in results.items() if result != 'refused'} == {}
    assert len(results) == len(FORGED)


def test_what_the_forged_pickles_are_made_of_is_loaded():
    allow_training_logs()
    right = {
        'array': array(shape(2), dtype('u1', '|'), data('\1\2')),
        'scalar': call(from_core('scalar'), dtype('u1', '|'), data('\3')),
        'history': history(),
    }
    loaded = {
        name: torch.load(io.BytesIO(in_archive(PROTO + pickled + STOP)), weights_only=True)
        for name, pickled in right.items()
    }
    assert loaded['array'].tolist() == [1, 2]
    assert loaded['scalar'] == 3
    assert type(loaded['history']) is HistoryBuffer
    assert loaded['history'].current() == 0


@pytest.mark.parametrize(
    'values',
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(6.0).reshape(2, 3, order='F'),
        np.arange(6, dtype=np.int16)[::2],
        np.array(5, np.uint64),
        np.zeros((0, 3), np.float16),
        np.arange(3, dtype='>i4'),
        np.array([True, False]),
        np.array([np.nan, np.inf, -0.0], np.longdouble),
    ],
    ids=lambda values: f'{values.dtype}{list(values.shape)}',
)
def test_arrays_of_numbers_are_loaded(load, values):
    loaded = load({'array': values, 'again': values})
    np.testing.assert_array_equal(loaded['array'], values)
    assert loaded['array'].dtype == values.dtype.newbyteorder('=')  # NumPy swaps when it unpickles
    assert loaded['again'] is loaded['array']
    pickled = io.BytesIO()
    torch.save(loaded, pickled)
    assert b'mmseg_cpg' not in pickled.getvalue()


@pytest.mark.parametrize('scalar', [np.float64(0.5), np.float32(-1), np.int64(-(2**62)), np.bool_(True), np.uint8(3)])
def test_scalars_are_loaded(load, scalar):
    loaded = load(scalar)
    assert type(loaded) is type(scalar)
    assert loaded == scalar


def test_histories_are_loaded(load):
    history = HistoryBuffer([1.0, 3.0, 2.0], [1, 1, 2], max_length=3)
    loaded = load({'log': history, 'empty': HistoryBuffer()})
    assert type(loaded['log']) is HistoryBuffer
    assert [type(values) for values in loaded['log'].data] == [np.ndarray] * 2
    for statistic in ('min', 'max', 'current', 'mean'):
        assert loaded['log'].statistics(statistic) == history.statistics(statistic)
    loaded['log'].update(7.0)
    assert loaded['log'].data[0].tolist() == [3, 2, 7]
    assert len(loaded['empty'].data[0]) == 0
    assert load(loaded)['log'].data[0].tolist() == [3, 2, 7]


def test_files_cannot_change_the_statistics_of_all_histories(load):
    before = dict(HistoryBuffer._statistics_methods)
    history = HistoryBuffer([1.0], [1])
    history.__dict__['statistics_methods'] = {'mean': HistoryBuffer.max}
    load(history)
    assert HistoryBuffer._statistics_methods == before
