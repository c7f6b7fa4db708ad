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
        ('base+CPGLoss:0.1234567', [BASE, dict(type='CPGLoss', loss_weight=0.1234567)], 'base+CPGLoss:0.1234567'),
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
            'A,x=1e+3,y=-1+B,c=None',
            [dict(type='A', x=1000.0, y=-1), dict(type='B', c=None)],
            'A,x=1000.0,y=-1+B,c=None',
        ),
        (
            'A, path=a/b.npy, sizes=[(1,2),[true,x]]',
            [dict(type='A', path='a/b.npy', sizes=[(1, 2), [True, 'x']])],
            'A,path=a/b.npy,sizes=[(1,2),[True,x]]',
        ),
    ],
)
def test_what_is_typed(text, parts, name):
    choice = parse_losses(text)
    assert choice.parts == tuple(parts)
    assert choice.name == name


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "'' is not a valid loss name, expected NAME[:WEIGHT]"),
        ('base+', "'base+' is not a valid loss name"),
        ('CPGLoss(ksize=3)', "'CPGLoss(ksize=3)' is not a valid loss name"),
        ('dict(type=CPGLoss)', "'dict(type=CPGLoss)' is not a valid loss name"),
        ('CPGLoss:x', "invalid weight 'x', expected a finite number"),
        ('CPGLoss:nan', "invalid weight 'nan'"),
        ('CPGLoss:1,ksize', "invalid weight '1,ksize'"),
        ('CPGLoss:1,ksize=3,ksize=5', 'ksize is given twice'),
        ('CPGLoss:1,loss_weight=2', 'loss_weight is given twice'),
        ('CPGLoss,class_weight=[1,2', "cannot read 'class_weight=[1,2'"),
        ('base:2', "'base' stands for the losses of the config"),
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
        ('Nothing', 'Available losses: ActiveBoundaryLoss, BoundaryCrossEntropyLoss, '),
        ('no.such.Nothing', 'Available losses: '),
        (
            'CPGLoss:1,ksize=4',
            "'CPGLoss:1,ksize=4': CPGLoss cannot be built: ValueError: ksize must be odd and in [3, 11], got 4.",
        ),
        ('CPGLoss:1,k=3', "unexpected keyword argument 'k'. Its options are ksize, loss_weight, use_sigmoid, "),
        ('torch.nn.CrossEntropyLoss', 'is not usable in loss_decode'),
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
