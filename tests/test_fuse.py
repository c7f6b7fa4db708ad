"""fuse_losses, as tools/train.py and a config call it."""

from copy import deepcopy

import pytest
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_cpg import fuse_losses, precompute_boundaries
from mmseg_cpg.config_nodes import builds, final_head, losses_of
from tests.configs.reading import CPG, CPG_STOCK, load

PATHS = [path for path in [*CPG, *CPG_STOCK] if 'cpg' in path.stem]
CE = dict(type='CrossEntropyLoss')
CPG_LOSS = dict(type='mmseg_cpg.CPGLoss', ksize=5)
RMI = dict(type='mmseg_cpg.RMILoss')


def tiny(*losses):
    return Config(dict(model=dict(decode_head=dict(loss_decode=list(losses)), auxiliary_head=dict(loss_decode=CE))))


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_every_config_here(path):
    cfg = load(path)
    before = deepcopy(cfg)
    fuse_losses(cfg)
    head, head_before = (final_head(each.model) for each in (cfg, before))
    fused, *others = losses_of(head)
    assert [loss.loss_name for loss in MODELS.build(fused)] == ['loss_ce', 'loss_cpg']
    kept = [loss for loss in losses_of(head_before) if not builds(loss, 'CrossEntropyLoss')]
    assert [*others, fused.cpg] == sorted(kept, key=lambda loss: builds(loss, 'CPGLoss'))
    assert fused.cross_entropy in losses_of(head_before)
    assert Config.fromstring(cfg.pretty_text, '.py').to_dict() == cfg.to_dict()
    precompute_boundaries(cfg)
    precompute_boundaries(before)
    assert cfg.train_dataloader == before.train_dataloader
    head.loss_decode = head_before.loss_decode
    assert cfg.to_dict() == before.to_dict()


def test_in_a_config(tmp_path):
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = '{PATHS[0]}'\nfrom mmseg_cpg import fuse_losses\n\nfuse_losses(_base_)\n")
    fused = load(PATHS[0])
    fuse_losses(fused)
    assert Config.fromfile(mine).to_dict() == fused.to_dict()


def test_heads_and_losses_that_stay():
    cfg = tiny(RMI, CPG_LOSS, CE)
    fuse_losses(cfg)
    fused = dict(type='mmseg_cpg.CrossEntropyCPGLoss', cross_entropy=CE, cpg=CPG_LOSS)
    assert cfg.model.decode_head.loss_decode == [fused, RMI]
    assert cfg.model.auxiliary_head.loss_decode == CE


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        ([CE], 'needs a head with a CPGLoss'),
        ([CPG_LOSS], 'needs exactly one CrossEntropyLoss in loss_decode, got CPGLoss'),
        ([dict(type='FocalLoss'), CPG_LOSS], 'needs exactly one CrossEntropyLoss .*, got FocalLoss, CPGLoss'),
        ([CE, CPG_LOSS, CPG_LOSS], 'needs exactly one CPGLoss .*, got CrossEntropyLoss, CPGLoss, CPGLoss'),
        ([CE, dict(CPG_LOSS, use_sigmoid=True)], 'cannot be fused: use_sigmoid of the CPG loss must be False'),
        ([dict(CE, reduction='sum'), CPG_LOSS], 'cannot be fused: both losses must have the same reduction'),
    ],
)
def test_what_cannot_be_fused_is_refused_and_the_config_left_alone(losses, message):
    cfg = tiny(*losses)
    before = deepcopy(cfg)
    with pytest.raises(ValueError, match=message):
        fuse_losses(cfg)
    assert cfg.to_dict() == before.to_dict()
