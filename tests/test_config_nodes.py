import pytest
from mmengine.config import ConfigDict
from mmseg.models import FCNHead
from mmseg.registry import MODELS

from mmseg_cpg.config_nodes import builds, class_of, name_losses, type_text

CE, CPG = dict(type='CrossEntropyLoss'), dict(type='mmseg_cpg.CPGLoss')


@pytest.mark.parametrize(
    ('head', 'name'),
    [
        (dict(loss_decode=CE), 'CE'),
        (dict(loss_decode=[CE, CPG]), 'CE + CPG'),
        ([dict(loss_decode=CE), dict(loss_decode=[dict(type='DiceLoss'), CPG])], 'DiceLoss + CPG'),
    ],
)
def test_losses_of_the_final_head_are_named(head, name):
    assert name_losses(ConfigDict(decode_head=head)) == name


@pytest.mark.parametrize('kind', ['FCNHead', 'mmseg.FCNHead', FCNHead])
def test_a_class_is_found_by_its_name_and_by_itself(kind):
    node = dict(type=kind)
    assert class_of(node, MODELS) is FCNHead
    assert builds(node, 'FCNHead')
    assert type_text(node).endswith('FCNHead')


def test_a_name_that_is_not_registered_has_no_class():
    assert class_of(dict(type='NoHead'), MODELS) is None
