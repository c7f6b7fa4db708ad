optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=None,
)
# lr * (1 - epoch / max_epochs) ** 2, which PolyLR gives for end = max_epochs + 1.
param_scheduler = dict(type='PolyLR', power=2, eta_min=0, begin=0, end=176, by_epoch=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=175, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# base_batch_size is the paper's total batch, set in each baseline; CheckBatchSizeHook compares the run with it.
auto_scale_lr = dict(enable=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=True),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=True, interval=5, max_keep_ckpts=3, save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    batch_size=dict(type='CheckBatchSizeHook'),
    reproducible_resume=dict(type='ReproducibleResumeHook'),
)
