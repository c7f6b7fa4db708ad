"""The tool that runs the evidence study, without training."""

import importlib
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmseg_cpg.cli.loss_spec import check_losses, parse_losses
from mmseg_cpg.experiments import study
from mmseg_cpg.experiments.study import DATASETS


@pytest.fixture
def commands(monkeypatch):
    """The commands that the tool runs, which succeed and leave nothing, after a baseline that has converged."""
    monkeypatch.setattr(study, '_require_convergence', lambda rows, config: None)
    found = []

    def run(command):
        found.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, 'run', run)
    return found


@pytest.mark.parametrize('name', DATASETS)
def test_compare_losses_understands_its_commands(commands, run_tool, name, tmp_path):
    run_tool('evidence', 'run', name, '--jobs', 2, '--csv', tmp_path / 'record.csv')
    parser = importlib.import_module('compare_losses').build_parser()
    for _, tool, *arguments in commands:
        assert Path(tool).name == 'compare_losses.py'
        args = parser.parse_args(arguments)
        assert Path(args.config).exists()
        assert (args.csv, args.jobs) == (str(tmp_path / 'record.csv'), 2)
        for losses in args.losses:
            check_losses(parse_losses(losses))
    tuned = [args for args in map(parser.parse_args, (command[2:] for command in commands)) if args.seeds == [100]]
    assert [len(args.losses) for args in tuned] == [1, 12, 3, 9]


def test_what_fails_does_not_stop_the_others(commands, fails_with, monkeypatch, tmp_path):
    monkeypatch.setattr(subprocess, 'run', lambda command: commands.append(command) or SimpleNamespace(returncode=1))
    message = fails_with('evidence', 'run', 'camvid', '--csv', tmp_path / 'record.csv')
    assert message.startswith(f'Error: {len(commands)} comparisons of the study are not complete.')
    assert len(commands) == 8


def test_the_ramp_has_to_train_with_what_was_chosen(commands, fails_with, monkeypatch, tmp_path):
    config = f'{DATASETS["sstem"].config}_ramp'
    stage = study.Stage(config, (0,), ['base'], own='base+CPGLoss:0.07,ksize=9')
    monkeypatch.setattr(study, 'stages', lambda dataset, rows: [stage])
    message = fails_with('evidence', 'run', 'sstem', '--csv', tmp_path / 'record.csv')
    assert "_ramp.py' must add [{'type': 'CPGLoss', 'loss_weight': 0.07, 'ksize': 9}] to its main loss" in message
    assert not commands
