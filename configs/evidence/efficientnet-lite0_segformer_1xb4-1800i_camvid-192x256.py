# EfficientNet-Lite0, pretrained on ImageNet, under SegFormer's head, with cross-entropy alone, for one CPU core.
_base_ = ['../_base_/cpu_runtime.py', './_base_/camvid_192x256.py']
max_iters = 1800
# Inverse square roots of the classes' shares of the training pixels, scaled to a mean of 1 over the pixels. Without
# weights, whether a network finds the rare classes is a matter of chance.
class_weight = [0.88, 0.75, 3.63, 0.64, 1.7, 1.15, 3.32, 3.39, 1.49, 4.5, 6.66]

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.0] * 3,
        std=[128.0] * 3,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=_base_.crop_size,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(type='AutocastBackbone', backbone=dict(type='EfficientNetLite0')),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[24, 40, 112, 320],
        in_index=[0, 1, 2, 3],
        channels=64,
        dropout_ratio=0.1,
        num_classes=len(_base_.metainfo.classes),
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        # One loss per pixel: the segmentor takes the mean. With class weights, MMSegmentation's own mean raises an
        # error if there are void pixels.
        loss_decode=dict(type='CrossEntropyLoss', class_weight=class_weight, reduction='none'),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=2.0)), norm_decay_mult=0.0),
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
