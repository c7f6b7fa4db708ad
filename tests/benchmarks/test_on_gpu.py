"""What the benchmarks do on a GPU, as far as that can be seen without one."""

import importlib.util
import re
import subprocess
import sys
import time
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
from mmseg.utils import register_all_modules

from benchmarks import (
    boundary_exactness,
    common,
    cpg_loss_on_gpu,
    cross_entropy_cpg_on_gpu,
    run_on_gpu,
    training_step_on_gpu,
)
from mmseg_cpg import __version__
from tests.inputs import blobs, random_logits
from tests.oracles import cpg_loss as oracle


@pytest.fixture
def on_gpu():
    return cpg_loss_on_gpu


@pytest.fixture
def training():
    register_all_modules(init_default_scope=True)
    return training_step_on_gpu


@pytest.fixture
def exactness():
    return boundary_exactness


@pytest.fixture
def runner():
    return run_on_gpu


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('ksize', [3, 5])
def test_floor_counts_what_is_read(on_gpu, dtype, memory_format, ksize):
    num_classes, (height, width) = 3, (19, 23)
    label = torch.zeros(2, height, width, dtype=torch.int64)
    label[0, 4:9, 3:7], label[1, 12:, 20:], label[1, 0, 0] = 1, 2, 255
    logits = torch.empty(2, num_classes, height, width, dtype=dtype).to(memory_format=memory_format)
    pixels, sectors = set(), set()
    for image, _, _, y, x in oracle.boundary(label.numpy(), ksize, num_classes):
        for v in range(max(y - ksize // 2, 0), min(y + ksize // 2 + 1, height)):
            for u in range(max(x - ksize // 2, 0), min(x + ksize // 2 + 1, width)):
                pixels.add((image, v, u))
    for image, y, x in pixels:
        for channel in range(num_classes):
            element = np.dot((image, channel, y, x), logits.stride())
            sectors.add(element * dtype.itemsize // 32)
    floor = on_gpu.floor(label, num_classes, ksize, dtype, memory_format)
    maps = 3 * label.numel() + 8 * len(pixels)
    assert floor['forward_bytes'] == (8 + 4 + 4) * label.numel() + 32 * len(sectors) + maps
    assert floor['backward_bytes'] == 32 * len(sectors) + maps + logits.nbytes


def test_rows_of_the_loss(on_gpu, monkeypatch):
    monkeypatch.setattr(on_gpu, 'KSIZES', (3,))
    monkeypatch.setattr(on_gpu, 'VARIANTS', on_gpu.VARIANTS[:1])
    monkeypatch.setattr(on_gpu, 'BARS', {on_gpu.QUICK_SHAPES[0]: {3: 1e9}})
    monkeypatch.setattr(on_gpu, 'copy_bandwidth', lambda tensor: 1e8)  # bytes/s
    measured = on_gpu.measure

    def with_known_times(*args):
        rows = measured(*args)
        rows['triton'].update(forward_ms=0.5, backward_ms=0.25)
        return rows

    monkeypatch.setattr(on_gpu, 'measure', with_known_times)
    (row,) = on_gpu.measure_all('cpu', 4, quick=True)
    for name in (*on_gpu.IMPLEMENTATIONS, 'cross_entropy'):
        assert row['measured'][name]['total_ms'] > 0
    triton = row['measured']['triton']
    assert triton['forward_share_of_copy'] == round(row['forward_bytes'] / 1e5 / 0.5, 3) > 0.01
    assert triton['backward_share_of_copy'] == round(row['backward_bytes'] / 1e5 / 0.25, 3) > 0.01
    assert '1000000000.0: met' in on_gpu.markdown([row])
    assert '1.3: missed by' in on_gpu.markdown([row])


def test_what_fails_is_published(on_gpu, monkeypatch):
    def fail(logits):
        raise torch.cuda.OutOfMemoryError('no room\nat all')

    shape = on_gpu.QUICK_SHAPES[0]
    logits, label = on_gpu.setup(shape, 'cpu')
    losses = {**on_gpu.losses_of(label, 3, ['sparse']), 'triton': fail, 'dense': fail}
    row = dict(logits=shape, dtype='float32', memory_format='contiguous_format', ksize=3, bar=0.5)
    row.update(on_gpu.floor(label, 3, 3, torch.float32, torch.contiguous_format))
    row['measured'] = on_gpu.measure_row(row, losses, logits, 4)
    assert row['measured']['dense'] == {'fails': 'no room'}
    assert '| fails |' in on_gpu.cells(row)
    assert '0.5: not measured' in on_gpu.cells(row)


def test_implementations_must_agree_before_they_are_timed(on_gpu):
    label = blobs((1, 20, 20), 3)
    losses = on_gpu.losses_of(label, 3, ['sparse'])
    losses['triton'] = lambda logits: 1.001 * losses['sparse'](logits)
    with pytest.raises(SystemExit, match='triton and sparse differ'):
        on_gpu.check(losses, random_logits(label, 3))


@pytest.mark.parametrize('ksize', [3, 5])
def test_logits_that_kernels_read_class_by_class(ksize):
    """Tile by tile and pixel by pixel."""
    label = blobs((2, 19, 70), 4, void=0.003, cell=17).numpy()
    radius, total = ksize // 2, 0
    is_valid = np.zeros(label.shape, bool)
    for image, _, _, y, x in oracle.boundary(label, ksize, 4):
        is_valid[image, y, x] = True

    def near(values, image, top, left, halo):
        return values[image, max(top - halo, 0) : top + 8 + halo, max(left - halo, 0) : left + 32 + halo]

    for image, top, left in np.ndindex(2, 3, 3):
        tile = image, 8 * top, 32 * left
        for halo_of_valid, halo in ((0, radius), (radius, 2 * radius)):
            if near(is_valid, *tile, halo_of_valid).any():
                classes = np.setdiff1d(near(label, *tile, halo), 255)
                total += len(classes) * (8 + 2 * halo) * (32 + 2 * halo)
    assert cross_entropy_cpg_on_gpu.class_reads(torch.from_numpy(label), 4, ksize) == total > 0


def test_rows_of_the_fused_loss(monkeypatch):
    monkeypatch.setattr(cross_entropy_cpg_on_gpu, 'KSIZES', (3,))
    times = dict(fused=1.5, separate=3.0, stock=2.0)

    def measure(losses, logits, repeats, baseline):
        assert baseline == 'stock'
        return {
            name: dict(total_ms=times[name], peak_memory=1.25, **common.ratio([times[name]], [2.0])) for name in losses
        }

    monkeypatch.setattr(cross_entropy_cpg_on_gpu, 'measure', measure)
    rows = cross_entropy_cpg_on_gpu.measure_all('cpu', 4, quick=True)
    assert [row['main_loss'] for row in rows] == ['CE', 'BCE']
    table = cross_entropy_cpg_on_gpu.markdown(rows)
    ratios = '0.75 (0.75 to 0.75) | 1.50 (1.50 to 1.50)'
    assert f'| 1×3×8×12 | BCE | 3 | 2.000, 1.500, 3.000 | {ratios} | 1.25, 1.25, 1.25 |' in table


def test_bars():
    against = common.against
    assert against(0.5, 0.5) == '0.5: met'
    assert against(0.75, 0.5) == '0.5: missed by 0.25'
    assert against(None, 0.5) == '0.5: not measured'
    assert against(0.5, None) == ''


def test_kernels_are_counted(monkeypatch):
    device = torch.autograd.DeviceType

    def event(name, where, duration_ns):
        return mock.Mock(
            **{'name.return_value': name, 'device_type.return_value': where, 'duration_ns.return_value': duration_ns}
        )

    profile = mock.MagicMock()
    profile.__enter__.return_value.profiler.kineto_results.events.return_value = [
        event('a', device.CUDA, 1500),
        event('aten::a', device.CPU, 9),
        event('Memset (Device)', device.CUDA, 9),
        event('a', device.CUDA, 2000),
    ]
    monkeypatch.setattr(torch.profiler, 'profile', lambda: profile)
    logits = torch.ones(2, requires_grad=True)
    assert common.kernels(torch.sum, logits) == {'a': [1.5, 2.0]}


def test_rows_of_the_training_step(training, monkeypatch):
    cases = [training.BASELINE, ('cpg3', 'sparse', True), ('bce_rmi', None, False)]
    monkeypatch.setattr(training, 'CASES', cases)
    found = []
    monkeypatch.setattr('mmseg_cpg.ops.cpg.sparse.targets_of_batch', lambda *args: found.append(args))
    rows = training.measure_all('cpu', 2, 4, 0, quick=True)
    assert not found  # what was made beforehand reached the loss
    assert [row['losses'] for row in rows] == ['BCE', 'BCE + CPG3', 'BCE + RMI']
    for row in rows:
        assert row['measured']['step']['ms'] > 0
    assert rows[0]['measured']['overhead']['percent'] == 0
    assert '| BCE + CPG3, sparse, precomputed | off |' in training.markdown(rows)


def test_training_step_without_room(training, monkeypatch):
    class Trainer(mock.Mock):
        images = torch.zeros(1)

        def prepare(self, name, implementation, precomputed):
            def step():
                time.sleep(0.001)
                if implementation == 'dense':
                    raise torch.cuda.OutOfMemoryError('no room')

            return step

    monkeypatch.setattr(training, 'CASES', [training.BASELINE, ('cpg3', 'dense', False)])
    rows = training.measure_cases(Trainer(), 4, 0)
    assert rows['cpg3', 'dense', False] == {'fails': 'no room'}
    assert rows[training.BASELINE]['step']['ms'] > 0


@pytest.mark.parametrize('implementation', ['dense', 'sparse', 'triton'])
def test_implementation_is_that_of_the_case(training, implementation):
    assert training.losses_of('cpg3', 'cpu', implementation)[1].implementation == implementation


def test_host_waits_are_counted(training, monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, 'set_sync_debug_mode', modes.append)

    def step():
        for _ in range(3):
            warnings.warn('called a synchronizing CUDA operation', stacklevel=1)
        warnings.warn('something else', stacklevel=1)

    assert training.host_waits(step) == 3
    assert modes == ['warn', 'default']


def test_layouts_of_the_convolution_agree(exactness):
    values = torch.rand(1, 3, 9, 11)
    results = [exactness.plain_gradient(values, 5, layout) for layout in exactness.LAYOUTS]
    for result in results:
        torch.testing.assert_close(result, results[0])


def test_settings_of_cudnn_are_all_tried_and_given_back(exactness):
    def settings():
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic

    before, seen = settings(), set()
    for name, _, _, flags in exactness.backends('cuda'):
        with flags:
            seen.add(settings())
            assert ('TF32 on' in name) == (settings()[:2] == (True, True))
    assert len([each for each in seen if each[0]]) == 8
    assert settings() == before


def test_counts_that_settings_change_are_a_range(exactness):
    row = dict(ksize=3, backend='cuDNN', true_entries=5)
    rows = [dict(row, marked_entries=count, dilution=count / 5) for count in (5, 1000, 50)]
    assert '| 3 | cuDNN | 5 to 1,000 | 5 | 1.0 to 200.0 |' in exactness.markdown(dict(rows=rows))


WITHOUT_MMSEG = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmseg', 'mmcv', 'mmengine', 'cv2', 'scipy', 'matplotlib'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
import benchmarks.boundary_exactness, benchmarks.cpg_loss
"""


def test_what_needs_no_mmsegmentation_is_imported_without_it(runner):
    subprocess.run([sys.executable, '-c', WITHOUT_MMSEG], cwd=runner.ROOT, check=True)


def test_results_are_stored_by_version_and_machine():
    path = common.result_path('cpg_loss', 'cpu')
    assert path.parent == common.RESULTS / __version__
    assert re.fullmatch('cpg_loss--[a-z0-9-]+.json', path.name)


def test_steps_name_files_and_modules_that_exist(runner):
    for step in runner.STEPS.values():
        for argument in [*step.command, *(step.without_mmseg or ())]:
            if argument.startswith('tests/'):
                assert (runner.ROOT / argument).is_file()
            elif argument.startswith('benchmarks.'):
                assert importlib.util.find_spec(argument)


def test_steps_go_on_whatever_fails(runner, tmp_path, monkeypatch, capsys):
    def step(code, limit_s=60, without_mmseg=()):
        return runner.Step(['-c', code], limit_s, without_mmseg)

    steps = dict(
        fails=step('raise SystemExit(3)'),
        hangs=step('import time; print("begins", flush=True); time.sleep(60)', 0.5),
        needs_mmseg=step('', without_mmseg=None),
        works=step('print("all is well")'),
    )
    monkeypatch.setattr(runner, 'STEPS', steps)
    monkeypatch.setattr(runner.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr('sys.argv', ['run_on_gpu.py', str(tmp_path / 'out'), '--steps', *steps])
    with pytest.raises(SystemExit) as error:
        runner.main()
    assert error.value.code == 1
    shown = capsys.readouterr().out
    assert 'fails: failed with exit status 3' in shown
    assert 'hangs: stopped after 0.5 s' in shown
    assert 'needs_mmseg: skipped, since mmsegmentation is not installed' in shown
    assert 'works: done' in shown
    assert (tmp_path / 'out' / 'works.log').read_text() == 'all is well\n'


def test_steps_fit_a_lease(runner):
    assert sum(step.limit_s for step in runner.STEPS.values()) <= 25 * 60
    for step in runner.STEPS.values():
        assert step.limit_s < 600
