# Training of the edge network of a SEMEDA loss with tools/train_edge_network.py, which takes the data, the number of
# classes and the padding from the config of a segmentor, and everything else from here; --cfg-options changes both.
max_iters = 2000
model = dict(
    type='mmseg_cpg.EdgeNetwork',
    channels=(32, 32),
    data_preprocessor=dict(type='SegDataPreProcessor'),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, weight_decay=1e-4))
param_scheduler = dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters // 2)
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='mmseg_cpg.EdgeMetric')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=max_iters // 4, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
log_processor = dict(by_epoch=False)
