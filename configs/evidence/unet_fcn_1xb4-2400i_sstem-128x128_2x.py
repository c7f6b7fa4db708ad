# The same config with twice the iterations.
_base_ = './unet_fcn_1xb4-2400i_sstem-128x128.py'
max_iters = 2 * 2400
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(begin=max_iters // 3, end=max_iters)
train_cfg = dict(max_iters=max_iters, val_begin=max_iters * 2 // 3, val_interval=max_iters // 6)
default_hooks = dict(checkpoint=dict(interval=max_iters // 3))
