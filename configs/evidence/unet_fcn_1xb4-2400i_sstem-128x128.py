# A quarter of UNet's usual width, from scratch, with cross-entropy alone, for one CPU core.
_base_ = [
    'mmseg::_base_/models/fcn_unet_s5-d16.py',
    '../_base_/cpu_runtime.py',
    './_base_/sstem_128x128.py',
]
max_iters = 2400
# Inverse square roots of the classes' shares of the training pixels, scaled to a mean of 1 over the pixels. Without
# weights, whether a network finds the rare classes is a matter of chance.
class_weight = [1.37, 3.19, 2.49, 6.93, 0.66]

# With the usual momentum, statistics cover about ten batches, and that noise moves a section's scores by a point.
norm_cfg = dict(type='BN', momentum=0.02, requires_grad=True)
model = _base_.model
model.data_preprocessor.size = _base_.crop_size
model.backbone.update(base_channels=16, norm_cfg=norm_cfg)
model.backbone = dict(type='AutocastBackbone', backbone=model.backbone)
model.decode_head.update(
    in_channels=16,
    channels=16,
    num_classes=len(_base_.metainfo.classes),
    norm_cfg=norm_cfg,
    # One loss per pixel: the segmentor takes the mean, and does not divide it by the class weights of the batch.
    loss_decode=dict(type='CrossEntropyLoss', class_weight=class_weight, reduction='none'),
)
model.auxiliary_head = None
model.test_cfg = dict(mode='whole')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
# Constant for a third of the training, so that the network learns the rare classes before the learning rate falls. In
# the last third, which is fine tuning, it is below 2 % of its maximum.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', power=6.0, eta_min=0.0, begin=max_iters // 3, end=max_iters, by_epoch=False),
]
# Validates at the beginning, in the middle and at the end of the last third, to show convergence.
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_begin=max_iters * 2 // 3, val_interval=max_iters // 6
)
default_hooks = dict(checkpoint=dict(interval=max_iters // 3))
