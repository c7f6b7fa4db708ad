"""model-index.yml and the metafiles name every config, and read as mim reads them."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from modelindex.load_model_index import load

ROOT = Path(__file__).parents[1]
CONFIGS = {
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob('configs/*/*.py')
    if path.parent.name not in ('_base_', 'demo', 'evidence')
}


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('update', ROOT / '.dev_scripts' / 'update_model_index.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def index():
    model_index = load(str(ROOT / 'model-index.yml'))
    model_index.build_models_with_collections()
    return model_index


def test_files_are_those_that_the_script_writes(script):
    for path, content in script.index_files().items():
        assert yaml.safe_load(path.read_text(encoding='utf-8')) == content, 'run .dev_scripts/update_model_index.py'


def test_mim_reads_every_config(index):
    # As in MMSegmentation, paths start at the root; model-index looks for the README next to the metafile.
    assert not [error for error in index.check(silent=True) if 'Path to README' not in error]
    assert {model.config for model in index.models} == CONFIGS
    assert [model.name for model in index.models] == [Path(model.config).stem for model in index.models]


def test_models_belong_to_a_collection_with_a_readme(index):
    assert {model.in_collection for model in index.models} == {collection.name for collection in index.collections}
    for collection in index.collections:
        assert (ROOT / collection.readme).is_file()


def test_there_are_no_results_before_there_are_runs(index):
    assert {model.results for model in index.models} == {None}


def test_metadata_of_a_model(index):
    (model,) = (model for model in index.models if model.name == 'ocrnet_hr48_cocostuff_cpg7')
    assert model.metadata.data == {
        'Training Data': 'COCO-Stuff 10k',
        'Batch Size': 16,
        'Architecture': ['HRNetV2p-W48', 'OCRNet'],
    }


@pytest.mark.parametrize('name', ['fcn_r50_cityscapes_cpg3.py', 'ocrnet_hr48_camvid_cpg3.py', 'ocrnet_hr48_ade20k.py'])
def test_a_config_of_an_unknown_name_is_refused(script, tmp_path, name):
    (tmp_path / name).write_text('', encoding='utf-8')
    with pytest.raises(ValueError, match='expected NETWORK_DATASET'):
        script.model(tmp_path / name)
