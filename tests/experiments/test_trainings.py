"""What is made of a training run's process that fails, with scripts in the place of the tools.

tests/tools/test_compare_losses_processes.py has the rest: resuming, stopping, locks.
"""

import pytest
from mmengine.config import Config

from mmseg_cpg.experiments.trainings import Launcher

TORCHRUN = """
[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 1, in <module>
[rank0]: torch.OutOfMemoryError: CUDA out of memory.
Traceback (most recent call last):
  File "run.py", line 1, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""


@pytest.fixture
def train(tmp_path):
    """Run a script as train.py, and return why it failed."""

    def run(script):
        (tmp_path / 'train.py').write_text(script)
        (tmp_path / 'config.py').write_text('a = 1\n')
        with (tmp_path / 'lock').open('w') as lock:
            return Launcher(tmp_path, 1, lock).train(Config.fromfile(tmp_path / 'config.py'), tmp_path / 'work')

    return run


@pytest.mark.parametrize(
    ('script', 'fault'),
    [
        ("import sys; sys.exit('Error: No data.')", 'No data.'),
        ("raise ValueError('bad value')", 'ValueError: bad value'),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('a')", "KeyError: 'a'"),
        (f'import sys; sys.exit({TORCHRUN!r})', 'torch.OutOfMemoryError: CUDA out of memory.'),
        ('import os; os._exit(9)', 'it ended with status 9'),
        ('import os; os.kill(os.getpid(), 9)', 'it was ended by SIGKILL'),
        ('pass', 'it ended without a result'),
    ],
)
def test_a_failure_is_one_line(train, script, fault):
    assert train(script) == fault


def test_what_it_says_is_shown(train, capfd):
    train("import sys; print('out'); print('warning', file=sys.stderr); sys.stderr.buffer.write(b'\\xff\\n')")
    out, err = capfd.readouterr()
    assert out.startswith('out\n')
    assert err == 'warning\n\ufffd\n'


def test_ctrl_c_while_the_config_is_written(train, monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except:  # noqa: E722  as in MMEngine
            raise SyntaxError('Failed to format the config file')  # noqa: B904

    monkeypatch.setattr(Config, 'dump', interrupted)
    with pytest.raises(KeyboardInterrupt):
        train('pass')
