_base_ = './schedule_175e.py'
param_scheduler = dict(end=201)
train_cfg = dict(max_epochs=200)
