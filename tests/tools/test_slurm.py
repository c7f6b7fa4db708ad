"""The Slurm launchers, with a stand-in for srun that notes its arguments and starts one task if told to."""

import json
import os
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
SRUN = """#!{python}
import json, os, sys
split = sys.argv.index('python')
with open('srun.json', 'w') as file:
    json.dump(dict(options=sys.argv[1:split], command=sys.argv[split:], port=os.environ['MASTER_PORT']), file)
if 'START' in os.environ:
    os.environ.update(SLURM_PROCID='0', SLURM_LOCALID='0')
    os.execvp('python', sys.argv[split:])
"""
OPTIONS = {
    '--partition': 'gpu',
    '--job-name': 'my job',
    '--gres': 'gpu:4',
    '--ntasks': '4',
    '--ntasks-per-node': '4',
    '--cpus-per-task': '5',
    '--kill-on-bad-exit': '1',
}


@pytest.fixture
def launch(in_process, write_config, tmp_path):
    """Run a launcher and return srun's options, the command that it was to run, its port, and what was printed."""
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(0o755)
    write_config(tmp_path)
    path = os.pathsep.join([str(srun.parent), str(Path(sys.executable).parent), os.environ['PATH']])

    def run(script, *arguments, **environment):
        output = in_process(TOOLS / script, 'gpu', 'my job', *arguments, cwd=tmp_path, **{'PATH': path, **environment})
        noted = json.loads((tmp_path / 'srun.json').read_text())
        return noted['options'], noted['command'], noted['port'], output

    return run


def as_dict(options):
    return dict(option.split('=', 1) for option in options)


def test_train_by_default_on_four_gpus_of_one_node(launch):
    options, command, port, output = launch('slurm_train.sh', 'tiny.py', '--cfg-options', 'a.b=[(1, 2)]', START='')
    assert as_dict(options) == OPTIONS
    arguments = ['tiny.py', '--cfg-options', 'a.b=[(1, 2)]', '--launcher', 'slurm']
    assert command == ['python', '-u', str(TOOLS / 'train.py'), *arguments]
    assert port == '29500'
    assert output.returncode == 1
    assert '--launcher slurm needs GPUs' in output.stderr  # train.py ran, up to what needs a GPU


def test_test_takes_the_checkpoint(launch):
    _, command, _, _ = launch('slurm_test.sh', 'tiny.py', 'none.pth', '--tta')
    assert command[2:] == [str(TOOLS / 'test.py'), 'tiny.py', 'none.pth', '--tta', '--launcher', 'slurm']


@pytest.mark.parametrize(
    ('environment', 'expected'),
    [
        (
            dict(GPUS='16', GPUS_PER_NODE='8', CPUS_PER_TASK='2'),
            {'--ntasks': '16', '--gres': 'gpu:8', '--ntasks-per-node': '8', '--cpus-per-task': '2'},
        ),
        (dict(GPUS='8'), {'--ntasks': '8'}),
        (dict(GPUS='1'), {'--ntasks': '1', '--gres': 'gpu:1', '--ntasks-per-node': '1'}),
        (dict(SRUN_ARGS='--time=2:00 --exclude=n1'), {'--time': '2:00', '--exclude': 'n1'}),
    ],
)
def test_environment_chooses_resources(launch, environment, expected):
    options, _, port, _ = launch('slurm_train.sh', 'none.py', PORT='29511', **environment)
    assert as_dict(options) == {**OPTIONS, **expected}
    assert port == '29511'


@pytest.mark.parametrize(
    ('script', 'arguments'), [('slurm_train.sh', ['gpu', 'job']), ('slurm_test.sh', ['gpu', 'job', 'a.py'])]
)
def test_missing_arguments_show_the_usage(in_process, tmp_path, script, arguments):
    output = in_process(TOOLS / script, *arguments, cwd=tmp_path)
    assert output.returncode == 2
    assert 'PARTITION JOB_NAME CONFIG' in output.stderr
    output = in_process(TOOLS / script, *arguments, 'b.pth', cwd=tmp_path, GPUS='two')
    assert output.returncode == 2
    assert "GPUS must be the total number of processes, but got 'two'" in output.stderr


def test_a_mistake_is_said_by_the_first_task_of_a_node(run_tool, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr('mmseg_cpg.cli.errors.time.sleep', waited.append)
    monkeypatch.setenv('SLURM_LOCALID', '1')
    monkeypatch.delenv('LOCAL_RANK')
    with pytest.raises(SystemExit):
        run_tool('train', 'none.py', '--launcher', 'slurm')
    assert waited
