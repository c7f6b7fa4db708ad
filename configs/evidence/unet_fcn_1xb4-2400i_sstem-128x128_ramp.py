# The weight of CPG increases from 0 to its value over the first third of training, while the learning rate is
# high.
_base_ = './unet_fcn_1xb4-2400i_sstem-128x128.py'
model = _base_.model
model.decode_head.loss_decode = [
    model.decode_head.loss_decode,
    dict(type='mmseg_cpg.CPGLoss', ksize=5, loss_weight=2.0),
]
custom_hooks = [
    dict(type='mmseg_cpg.CPGLogHook'),
    dict(type='mmseg_cpg.LossWeightHook', loss_name='loss_cpg', end=_base_.max_iters // 3),
]
