"""Losses as they are typed."""

import pytest
from mmengine.config import Config
from mmseg.models.losses import DiceLoss
from mmseg.registry import MODELS

from mmseg_cpg.cli.errors import UserError
from mmseg_cpg.cli.loss_spec import BASE, check_losses, choose_losses, parse_losses

OWN = [dict(type='CrossEntropyLoss', avg_non_ignore=True), dict(type='LovaszLoss')]


@pytest.mark.parametrize(
    ('text', 'parts', 'name'),
    [
        ('base', [BASE], 'base'),
        ('CPGLoss', [dict(type='CPGLoss')], 'CPGLoss'),
        ('base+CPGLoss:1.0', [BASE, dict(type='CPGLoss', loss_weight=1.0)], 'base+CPGLoss:1'),
        ('base + CPGLoss:1e-3', [BASE, dict(type='CPGLoss', loss_weight=0.001)], 'base+CPGLoss:0.001'),
        (
            'CrossEntropyLoss:1,class_weight=[1, 2.5],avg_non_ignore=true+mmseg_cpg.CPGLoss:2,ignore_policy=exclude',
            [
                dict(type='CrossEntropyLoss', loss_weight=1.0, class_weight=[1, 2.5], avg_non_ignore=True),
                dict(type='mmseg_cpg.CPGLoss', loss_weight=2.0, ignore_policy='exclude'),
            ],
            'CrossEntropyLoss:1,class_weight=[1,2.5],avg_non_ignore=True+mmseg_cpg.CPGLoss:2,ignore_policy=exclude',
        ),
        (
            "base+dict(type='CPGLoss', loss_weight=1.50, ksize=5)",
            [BASE, dict(type='CPGLoss', loss_weight=1.5, ksize=5)],
            'base+CPGLoss:1.5,ksize=5',
        ),
        (
            '{"type": "A", "sub": dict(x=[dict(y=-1)], z="+,")}+B,c=None',
            [dict(type='A', sub=dict(x=[dict(y=-1)], z='+,')), dict(type='B', c=None)],
            "A,sub={'x':[{'y':-1}],'z':'+,'}+B,c=None",
        ),
        ("A,path=a/b.npy,text='x, y'", [dict(type='A', path='a/b.npy', text='x, y')], 'A,path=a/b.npy,text=x,y'),
    ],
)
def test_what_is_typed(text, parts, name):
    choice = parse_losses(text)
    assert choice.parts == tuple(parts)
    assert choice.name == name


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "'' is no name of a loss, expected NAME[:WEIGHT]"),
        ('base+', "'' is no name of a loss"),
        ('CPGLoss(ksize=3)', "'CPGLoss(ksize=3)' is no name of a loss"),
        ('CPGLoss:x', "'x' is no weight, expected a finite number"),
        ('CPGLoss:nan', "'nan' is no weight"),
        ('CPGLoss:1,ksize', "cannot read 'ksize'"),
        ('CPGLoss:1,ksize=3,ksize=5', "cannot read 'ksize=5'"),
        ('CPGLoss:1,loss_weight=2', "cannot read 'loss_weight=2'"),
        ('base:2', "'base' are the losses of the config as they are"),
        ('dict(ksize=3)', "is no dict of plain values with a 'type'"),
        ('dict(type=CPGLoss)', 'is no dict of plain values'),
        ("dict('type')", 'is no dict of plain values'),
        ('dict(**a)', 'is no dict of plain values'),
    ],
)
def test_a_mistake_is_named(text, message):
    with pytest.raises(UserError) as error:
        parse_losses(text)
    assert str(error.value).startswith(f"--losses '{text}': ")
    assert message in str(error.value)


def test_losses_are_built():
    assert check_losses(parse_losses('base+CPGLoss:1,loss_name=loss_x+mmseg.DiceLoss')) == ['loss_x', 'loss_dice']
    assert check_losses(parse_losses('mmseg.models.losses.DiceLoss')) == ['loss_dice']
    assert check_losses(parse_losses('base')) == []


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('base+CPGLos', "'CPGLos' is not in the MODELS registry. Did you mean CPGLoss?"),
        ('cpg', 'Did you mean CPGLoss?'),
        ('mmseg_cpg.CPGlos', 'Did you mean CPGLoss?'),
        ('HausdorffLoss', 'Did you mean HuasdorffDisstanceLoss?'),
        ('Nothing', 'The losses there are ActiveBoundaryLoss, BoundaryCrossEntropyLoss, '),
        ('no.such.Nothing', 'The losses there are '),
        ('CPGLoss:1,ksize=4', "'CPGLoss:1,ksize=4': CPGLoss cannot be built: ksize must be odd and in [3, 11], got 4."),
        ('CPGLoss:1,k=3', "unexpected keyword argument 'k'. Its options are ksize, loss_weight, use_sigmoid, "),
        ('torch.nn.CrossEntropyLoss', 'is no loss for a decode head'),
        ('base+CPGLoss,loss_name=boundary', "loss_name must contain 'loss', or MMSegmentation logs the loss without"),
    ],
)
def test_a_loss_that_cannot_be_built_is_named(text, message):
    with pytest.raises(UserError) as error:
        check_losses(parse_losses(text))
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_losses_that_were_registered_elsewhere():
    class Mine(DiceLoss):
        pass

    MODELS.register_module(module=Mine, name='PlugInLoss')
    try:
        assert check_losses(parse_losses('PlugInLoss:2')) == ['loss_dice']
        with pytest.raises(UserError, match='Did you mean PlugInLoss'):
            check_losses(parse_losses('PluginLos'))
    finally:
        MODELS.module_dict.pop('PlugInLoss')


@pytest.mark.parametrize('own', [OWN, OWN[0]])
def test_only_the_final_head_is_changed(own):
    others = dict(type='FCNHead', loss_decode=dict(type='CrossEntropyLoss'))
    head = dict(type='OCRHead', loss_decode=own)
    cfg = Config(dict(model=dict(decode_head=[others, head], auxiliary_head=others)))
    choose_losses(cfg, parse_losses('base+CPGLoss:2'))
    assert cfg.model.decode_head[0] == cfg.model.auxiliary_head == others
    own = own if isinstance(own, list) else [own]
    assert cfg.model.decode_head[1].loss_decode == [*own, dict(type='CPGLoss', loss_weight=2.0)]
    cfg = Config(dict(model=dict(decode_head=head)))
    choose_losses(cfg, parse_losses('DiceLoss'))
    assert cfg.model.decode_head.loss_decode == [dict(type='DiceLoss')]


def test_titles_name_the_configs_own():
    assert parse_losses('base+CPGLoss:2,ksize=5').title('CE') == 'CE + CPGLoss:2,ksize=5'
    assert parse_losses('base').title('CE') == 'CE'
