"""The README's snippets run, and its numbers are those of the JSON files in benchmarks/."""

import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import HOOKS, METRICS, MODELS, TRANSFORMS
from mmseg.utils import register_all_modules

from mmseg_cpg import BoundaryTargetHook, CPGLoss

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()
SNIPPETS = re.findall(r'```python\n(.*?)```', README, re.DOTALL)


def test_there_are_snippets():
    assert len(SNIPPETS) == 5


def test_config_snippet_builds(tmp_path):
    (tmp_path / 'config.py').write_text(SNIPPETS[0])
    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.model.pretrained = None
    head = MODELS.build(cfg.model).decode_head
    assert [loss.loss_name for loss in head.loss_decode] == ['loss_ce', 'loss_cpg']
    assert isinstance(head.loss_decode[1], CPGLoss)


def test_three_lines_precompute_boundaries(tmp_path):
    config, _, three_lines, *_ = SNIPPETS
    assert len([line for line in three_lines.splitlines() if line]) == 3
    (tmp_path / 'my_config.py').write_text(config)
    (tmp_path / 'precomputed.py').write_text(three_lines)
    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(tmp_path / 'precomputed.py')
    *_, pack, transform = cfg.train_dataloader.dataset.pipeline
    assert pack.type == 'PackSegInputs'
    assert TRANSFORMS.build(transform).pad_size == cfg.model.data_preprocessor.size
    assert [type(HOOKS.build(hook)) for hook in cfg.custom_hooks] == [BoundaryTargetHook]


def test_evaluator_snippet_builds():
    names = {}
    exec(SNIPPETS[3], names)
    register_all_modules(init_default_scope=True)
    assert [type(METRICS.build(metric)).__name__ for metric in names['val_evaluator']] == [
        'IoUMetric',
        'BoundaryMetric',
    ]


def test_losses_snippet_builds():
    names = {}
    exec(SNIPPETS[4], names)
    register_all_modules(init_default_scope=True)
    assert [MODELS.build(loss).loss_name for loss in names['loss_decode']] == ['loss_ce', 'loss_abl']


def test_python_snippet_runs():
    names = {}
    exec(SNIPPETS[1], names)
    assert names['logits'].grad.isfinite().all()


@pytest.mark.parametrize(
    'name',
    [
        'benchmark_cpg_loss',
        'benchmark_losses',
        'benchmark_boundary_exactness',
        'benchmark_boundary_metric',
        'benchmark_boundary_transform',
        'benchmark_training_step',
    ],
)
def test_tables_are_those_of_the_json_files(name, benchmark):
    result = json.loads((ROOT / 'benchmarks' / f'{name}.json').read_text())
    tables = benchmark(name).markdown(result)
    for table in [tables] if isinstance(tables, str) else tables:
        assert table in README


def test_links_lead_somewhere():
    for target in re.findall(r'\]\(([^)#]+)\)', README):
        assert target.startswith('http') or (ROOT / target).exists(), target
