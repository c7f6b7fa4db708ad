"""What the hook adds to the log of a real training, against the losses and labels of that training."""

import json

import pytest
import torch
from mmengine.registry import HOOKS
from mmseg.registry import TRANSFORMS

from mmseg_cpg import CPGLogHook
from mmseg_cpg.engine.hooks import cpg_log_hook
from mmseg_cpg.ops import boundary_targets

LOSSES = """
model['decode_head']['loss_decode'] = [
    dict(type='CrossEntropyLoss', avg_non_ignore=True),
    dict(type='CPGLoss', ksize=3),
    dict(type='CPGLoss', ksize=5, loss_weight=0.5, loss_name='loss_cpg5', ignore_policy='as_background'),
    dict(type='CPGLoss', ksize=3, loss_name='unused')]
train_cfg['max_iters'] = 9
default_hooks['logger'] = dict(type='LoggerHook', interval=3, log_metric_by_epoch=False)
default_hooks['checkpoint'] = dict(type='CheckpointHook', by_epoch=False, interval=9)
log_processor = dict(by_epoch=False, window_size=2)
"""
HOOK = "custom_hooks = [dict(type='mmseg_cpg.CPGLogHook')]\n"
SHARES = {'cpg_share', 'boundary_share_ksize3', 'boundary_share_ksize5'}


def rows_of(folder):
    (path,) = folder.glob('work/*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.open()]
    return [row for row in rows if 'loss' in row]


@pytest.fixture
def searches(monkeypatch):
    """The kernel size of each search for a boundary that the hook makes."""
    calls = []

    def spy(label, ksize, **options):
        calls.append((ksize, options['ignore_policy']))
        return boundary_targets(label, ksize, **options)

    monkeypatch.setattr(cpg_log_hook, 'boundary_targets', spy)
    return calls


def labels_of_batch(data_root, step):
    """The two labels that iteration ``step`` trains on: the four in turn."""
    pipeline = TRANSFORMS.build(dict(type='mmseg.LoadAnnotations'))
    names = [2 * (step - 1) % 4, (2 * step - 1) % 4]
    infos = [
        dict(
            seg_map_path=str(data_root / 'ann_dir' / 'train' / f'{name}.png'),
            label_map=None,
            reduce_zero_label=False,
            seg_fields=[],
        )
        for name in names
    ]
    return torch.stack([torch.from_numpy(pipeline(info)['gt_seg_map']) for info in infos])


def test_shares_are_those_of_the_logged_losses_and_labels(write_config, run_tool, data_root, tmp_path, searches):
    run_tool('train', write_config(tmp_path, LOSSES + HOOK))
    rows = rows_of(tmp_path)
    # The two batches of an epoch end at iteration 2, where LoggerHook logs as well.
    assert [row['step'] for row in rows] == [2, 3, 6, 9]
    for row in rows:
        assert row['cpg_share'] == pytest.approx((row['decode.loss_cpg'] + row['decode.loss_cpg5']) / row['loss'])
        assert 0 < row['cpg_share'] < 1
        label = labels_of_batch(data_root, row['step'])
        for ksize, policy in ((3, 'exclude'), (5, 'as_background')):
            mask = boundary_targets(label, ksize, ignore_policy=policy).mask()
            assert row[f'boundary_share_ksize{ksize}'] == pytest.approx(mask.float().mean().item())
    per_row = [(3, 'exclude')] * 2 + [(5, 'as_background')] * 2
    assert searches == per_row * len(rows)


def test_training_is_the_same_with_and_without_it(write_config, run_tool, tmp_path):
    weights, rows = [], []
    for name, extra in (('with', HOOK), ('without', '')):
        folder = tmp_path / name
        folder.mkdir()
        run_tool('train', write_config(folder, LOSSES + extra))
        weights.append(torch.load(folder / 'work' / 'iter_9.pth')['state_dict'])
        rows.append([{key: value for key, value in row.items() if 'time' not in key} for row in rows_of(folder)])
    for name, weight in weights[0].items():
        assert torch.equal(weights[1][name], weight), name
    assert [{key: value for key, value in row.items() if key not in SHARES} for row in rows[0]] == rows[1]
    assert all(row.keys() > SHARES for row in rows[0])


def test_a_training_without_cpg_loss_logs_nothing_more(write_config, run_tool, tmp_path):
    run_tool('train', write_config(tmp_path, HOOK))
    assert not any(SHARES & row.keys() for row in rows_of(tmp_path))


def test_it_is_registered():
    assert isinstance(HOOKS.build(dict(type='mmseg_cpg.CPGLogHook')), CPGLogHook)
