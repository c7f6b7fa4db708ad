_base_ = './schedule_175e.py'
_base_.pop('param_scheduler')
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-6))
train_cfg = dict(max_epochs=24000, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100))
