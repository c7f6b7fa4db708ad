"""Configs that inherit ``mmseg_cpg::...`` build, although MMEngine marks their parts with this package's scope."""

import pytest
from mmengine import registry
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.engine import SegVisualizationHook
from mmseg.models import EncoderDecoder

import mmseg_cpg


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('registry') / 'mine.py'
    path.write_text("_base_ = 'mmseg_cpg::cpg/lraspp_m-v3_ade20k_cpg5.py'")
    return Config.fromfile(path)


@pytest.fixture(autouse=True)
def runner_scope():
    """As in a runner, which builds with MMEngine's registries in the config's default scope."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def test_hooks_are_found_in_the_scope_that_they_carry(config):
    hook = config.default_hooks.visualization
    assert hook._scope_ == 'mmseg_cpg'
    with registry.HOOKS.switch_scope_and_registry(hook._scope_) as hooks:
        assert hooks.get(hook.type) is SegVisualizationHook


def test_model_builds_with_its_cpg_loss(config):
    model = registry.MODELS.build(dict(config.model, pretrained=None))
    assert type(model) is EncoderDecoder
    assert type(model.decode_head.loss_decode[1]) is mmseg_cpg.CPGLoss


@pytest.mark.parametrize('name', ['CPGLoss', 'mmseg_cpg.CPGLoss'])
@pytest.mark.parametrize('scope', ['mmseg', 'mmseg_cpg'])
def test_loss_is_found_from_both_scopes(name, scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert type(registry.MODELS.build(dict(type=name))) is mmseg_cpg.CPGLoss
