_base_ = 'mmseg::_base_/datasets/cityscapes.py'
num_classes = 19
main_loss = dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True)
crop_size = (1024, 2048)
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'PhotoMetricDistortion']
train_pipeline[3].crop_size = crop_size  # RandomCrop
train_dataloader = dict(
    sampler=dict(type='DefaultSampler'),
    drop_last=True,  # a last batch of one image fails in ASPP's BN
    dataset=dict(pipeline=train_pipeline),
)
