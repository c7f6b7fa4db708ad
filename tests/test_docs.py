"""The README and the documentation: snippets run, tables are those of their sources, links lead somewhere."""

import csv
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from mmengine.config import Config
from mmseg.registry import HOOKS, METRICS, MODELS, TRANSFORMS
from mmseg.utils import register_all_modules
from scipy import stats

import mmseg_cpg
from benchmarks.common import read_result, read_results
from mmseg_cpg import BoundaryTargetHook, ops

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', *(path for path in sorted(DOCS.rglob('*.md')) if 'repository' not in path.parts)]
GUIDES = DOCS / 'user_guides'


def snippets(path):
    return re.findall(r'```python\n(.*?)```', path.read_text('utf-8'), re.DOTALL)


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def select(pattern):
    """The snippets whose first line matches, as (page, index)."""
    return [(page, index) for page in PAGES for index, code in enumerate(snippets(page)) if re.match(pattern, code)]


def ids(cases):
    return [f'{page.stem}-{index}' for page, index in cases]


CODE = select('import |from ')
ENTRIES = select('(loss_decode|custom_hooks|val_evaluator) = ')
CONFIGS = select("_base_ = 'mmseg::")


def test_every_snippet_is_tested():
    assert set(select('')) == {*CODE, *ENTRIES, *CONFIGS, (GUIDES / 'load_time_targets.md', 0)}


def readme():
    return (ROOT / 'README.md').read_text('utf-8')


def test_readme_is_short():
    assert len(readme().splitlines()) <= 150


@pytest.mark.parametrize(('page', 'index'), CODE, ids=ids(CODE))
def test_code_runs(page, index):
    exec(snippets(page)[index], {})


@pytest.mark.parametrize(('page', 'index'), ENTRIES, ids=ids(ENTRIES))
def test_entries_of_configs_build(page, index):
    names = {}
    exec(snippets(page)[index], names)
    register_all_modules(init_default_scope=True)
    for name, registry in (('loss_decode', MODELS), ('custom_hooks', HOOKS), ('val_evaluator', METRICS)):
        entries = names.get(name, [])
        for entry in [entries] if isinstance(entries, dict) else entries:
            assert type(registry.build(entry)).__name__ == entry['type'].rpartition('.')[2]


@pytest.mark.parametrize(('page', 'index'), CONFIGS, ids=ids(CONFIGS))
def test_config_has_cpg_on_its_final_head(page, index, tmp_path):
    (tmp_path / 'config.py').write_text(snippets(page)[index])
    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(tmp_path / 'config.py')
    cfg.model.pretrained = None
    head = MODELS.build(cfg.model).decode_head
    final = head[-1] if isinstance(cfg.model.decode_head, list) else head
    assert [loss.loss_name for loss in final.loss_decode] == ['loss_ce', 'loss_cpg']


def test_three_lines_precompute_boundaries(tmp_path):
    three_lines = snippets(GUIDES / 'load_time_targets.md')[0]
    assert len([line for line in three_lines.splitlines() if line]) == 3
    (tmp_path / 'my_config.py').write_text(snippets(DOCS / 'get_started.md')[0])
    (tmp_path / 'precomputed.py').write_text(three_lines)
    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(tmp_path / 'precomputed.py')
    *_, pack, transform = cfg.train_dataloader.dataset.pipeline
    assert pack.type == 'PackSegInputs'
    assert TRANSFORMS.build(transform).pad_size == cfg.model.data_preprocessor.size
    assert [type(HOOKS.build(hook)) for hook in cfg.custom_hooks] == [BoundaryTargetHook]


def test_segmentation_models_pytorch():
    pytest.importorskip('segmentation_models_pytorch')
    page = GUIDES / 'plain_pytorch.md'
    names = {}
    exec(snippets(page)[0], names)
    exec(re.search(r'```text\n(import segmentation.*?)```', page.read_text('utf-8'), re.DOTALL)[1], names)
    assert names['model'](names['images']).shape == (2, names['NUM_CLASSES'], 64, 64)


def test_tables_are_up_to_date():
    script = load_script(ROOT / '.dev_scripts' / 'update_docs.py')
    assert set(script.documents()) >= {ROOT / 'README.md', DOCS / 'benchmarks.md', DOCS / 'model_zoo.md'}
    for path in script.documents():
        assert script.updated(path) == path.read_text('utf-8'), 'run .dev_scripts/update_docs.py'


def test_speed_quoted_in_readme():
    rows = read_result('cpg_loss')['against_dense']
    ratios = [row['grouped_dense']['over_sparse'] for row in rows]
    link = '(docs/benchmarks.md#sparse-versus-dense)'
    assert f'[{min(ratios):.0f} to {max(ratios):.0f} times]{link} faster' in readme()
    rows = read_result('boundary_exactness')['rows']
    most = max(row['marked_entries'] / row['true_entries'] for row in rows)
    link = '(docs/benchmarks.md#boundary-exactness)'
    assert f'[up to {most:.0f} times]{link} as many boundary entries' in readme()
    cases = read_result('losses')['cases']
    slowest = max(case['losses'][f'CPGLoss, ksize {k}']['over_cross_entropy'] for case in cases for k in (3, 5, 7))
    assert f'up to {slowest:.1f} times as much' in readme()
    cases = [case for result in read_results('cross_entropy_cpg') for case in result['cases']]
    saved = [1 - case['fused']['total_ms'] / case['separate']['total_ms'] for case in cases]
    quoted = f'{100 * min(saved):.0f} to {100 * max(saved):.0f} % less time than the two losses separately'
    guide = ' '.join((DOCS / 'user_guides/cpg_loss.md').read_text('utf-8').split())
    assert f'on CPU {quoted}' in readme()
    assert quoted in guide
    assert all(case['fused']['peak_memory'] < case['separate']['peak_memory'] / 3 for case in cases)


def test_speed_of_the_fused_loss_quoted_on_the_pages():
    page = ' '.join((DOCS / 'benchmarks.md').read_text('utf-8').split())
    by_allocator = {True: [], False: []}
    for result in read_results('cross_entropy_cpg'):
        cases = [case['fused']['over_baseline'] for case in result['cases']]
        by_allocator['MALLOC_TRIM_THRESHOLD_' in result['environment']] += cases
    default, kept = ((min(ratios), max(ratios)) for ratios in (by_allocator[False], by_allocator[True]))
    assert f'{default[0]:.1f} to {default[1]:.1f} times the time of the stock loss alone' in page
    assert f'{kept[0]:.1f} to {kept[1]:.1f} times as long as the stock loss alone' in page
    cases = [case for result in read_results('cross_entropy_cpg') for case in result['cases']]
    ratios = [case['fused']['over_baseline'] for case in cases]
    guide = (DOCS / 'user_guides/cpg_loss.md').read_text('utf-8')
    assert f'{min(ratios):.1f} to {max(ratios):.1f} times the time' in guide
    assert all(case['fused']['peak_memory'] < case['stock']['peak_memory'] / 2 for case in cases)


def test_gains_quoted_in_the_guide():
    guide = (DOCS / 'user_guides/compare_losses.md').read_text('utf-8')
    with open(DOCS / 'assets' / 'compare_trainings.csv', encoding='utf-8') as file:
        rows = {(row['losses'], row['seed']): row for row in csv.DictReader(file)}
    seeds = sorted({seed for _, seed in rows})
    for losses in ('CE + CPGLoss:1', 'CE + BoundaryCrossEntropyLoss:1'):
        for score in ('mIoU, %', 'Boundary IoU, %'):
            gains = [float(rows[losses, seed][score]) - float(rows['CE', seed][score]) for seed in seeds]
            half_width = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
            assert f'{np.mean(gains):.1f} ± {half_width:.1f}' in guide


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10's Matplotlib draws text differently")
def test_pictures_of_boundaries_are_up_to_date(tmp_path):
    script = load_script(DOCS / 'draw_boundaries.py')
    script.draw().savefig(tmp_path / 'boundaries.png')
    assert np.array_equal(imread(tmp_path / 'boundaries.png'), imread(script.OUT)), 'run docs/draw_boundaries.py'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', page.read_text('utf-8')):
        assert target.startswith('http') or (page.parent / target).exists(), target


@pytest.mark.parametrize('module', [mmseg_cpg, ops], ids=['mmseg_cpg', 'ops'])
def test_api_reference_is_complete(module):
    pages = [path.read_text('utf-8') for path in sorted((DOCS / 'api').glob('*.md'))]
    documented = {name for page in pages for name in re.findall(r'\.\. auto\w+:: (\S+)', page)}
    assert set(module.__all__) - {'__version__'} <= documented


def test_pictures_are_small():
    for path in DOCS.joinpath('assets').iterdir():
        assert path.stat().st_size < 260_000, path
