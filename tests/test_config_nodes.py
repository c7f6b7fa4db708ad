import pytest
from mmengine.config import ConfigDict

from mmseg_cpg.config_nodes import name_losses

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
