# Fast-SCNN from scratch in a few minutes on a CPU, with cross-entropy alone.
_base_ = [
    'mmseg::_base_/models/fast_scnn.py',
    '../_base_/cpu_runtime.py',
    './_base_/blue_marble_256x256.py',
]
max_iters = 600

# SyncBN needs a GPU, and the stock momentum of 0.01 is too slow for so few iterations.
norm_cfg = dict(type='BN', requires_grad=True)
model = _base_.model
model.data_preprocessor.size = _base_.crop_size
model.backbone.norm_cfg = norm_cfg
for head in [model.decode_head, *model.auxiliary_head]:
    head.norm_cfg = norm_cfg
    head.num_classes = len(_base_.metainfo.classes)
    head.loss_decode = dict(type='CrossEntropyLoss', loss_weight=head.loss_decode.loss_weight, avg_non_ignore=True)
del head

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=max_iters // 3))
