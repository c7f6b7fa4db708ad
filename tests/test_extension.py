"""A third kind of precomputed target works with the hook and precompute_boundaries, from one file of its own."""

import copy

import torch
from mmengine.config import Config
from mmseg.registry import TRANSFORMS

from mmseg_cpg import precompute_boundaries
from tests.engine.hooks.test_boundary_target_hook import attach
from tests.extension import ClassShareLoss
from tests.models.decode_heads.test_stock_heads import CE, NUM_CLASSES, batch, build, deeplabv3

LOSS = dict(type='ClassShareLoss', num_classes=NUM_CLASSES)


def test_from_the_config_to_the_loss():
    model = build(deeplabv3([CE, LOSS]))
    (loss,) = (module for module in model.modules() if isinstance(module, ClassShareLoss))
    cfg = Config(
        dict(
            model=deeplabv3([CE, LOSS]),
            train_dataloader=dict(dataset=dict(pipeline=[dict(type='PackSegInputs')])),
        )
    )
    precompute_boundaries(cfg)
    assert [hook.type for hook in cfg.custom_hooks] == ['mmseg_cpg.BoundaryTargetHook']
    transform = TRANSFORMS.build(cfg.train_dataloader.dataset.pipeline[1])

    data = model.data_preprocessor(batch(64), True)
    expected = model.loss(**copy.deepcopy(data))['decode.loss_shares']
    assert (loss.num_computed, expected > 0) == (1, True)
    for sample in data['data_samples']:
        transform(dict(data_samples=sample))
    attach(model)
    actual = model(**data, mode='loss')['decode.loss_shares']
    assert loss.num_computed == 1
    assert torch.equal(actual, expected)
