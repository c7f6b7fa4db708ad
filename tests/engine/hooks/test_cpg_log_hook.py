"""cpg_share is the same however the CPG loss is computed: by itself, fused, and fused among other losses."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from mmseg_cpg import CPGLogHook
from tests.models.decode_heads.test_stock_heads import CE, CPG, batch, build, deeplabv3

FUSED = dict(type='CrossEntropyCPGLoss', cross_entropy=CE, cpg=CPG)
RMI = dict(type='RMILoss')


def log_of(losses, auxiliary=CE):
    """What three iterations on different batches leave in the message hub, with shares smoothed over two."""
    config = deeplabv3(losses)
    config['auxiliary_head']['loss_decode'] = auxiliary
    model, hook, hub = build(config), CPGLogHook(), MessageHub('shares')
    runner = SimpleNamespace(
        model=model,
        message_hub=hub,
        hooks=[LoggerHook(interval=3)],
        log_processor=SimpleNamespace(window_size=2),
        train_dataloader=range(9),
    )
    hook.before_train(runner)
    for index in range(3):
        data = batch(64)
        data['inputs'] = [image.roll(7 * index, -1) for image in data['inputs']]
        _, log = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))
        for name, value in log.items():
            hub.update_scalar(f'train/{name}', value)
        hook.after_train_iter(runner, index, data, log)
    return hub


@pytest.mark.parametrize('others', [[], [RMI]], ids=['alone', 'beside another loss'])
@pytest.mark.parametrize('auxiliary', [CE, [CE, CPG]], ids=['CE', 'CE + CPG'])
def test_the_share_of_a_fused_loss_is_that_of_the_plain_one(others, auxiliary):
    plain = log_of([CE, CPG, *others], auxiliary)
    cpg = [name for name in plain.log_scalars if name.endswith('loss_cpg')]
    logged = sum(plain.get_scalar(name).mean(2) for name in cpg) / plain.get_scalar('train/loss').mean(2)
    assert plain.get_scalar('train/cpg_share').data[0] == pytest.approx([logged])
    fused = log_of([FUSED, *others] if others else FUSED, auxiliary)
    assert fused.get_scalar('train/cpg_share').data[0] == pytest.approx([logged], rel=1e-5)
    assert {name for name in fused.log_scalars if name.startswith('train/')} <= {
        *plain.log_scalars,
        'train/decode.loss_ce_cpg',
    }
