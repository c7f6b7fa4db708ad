_base_ = 'mmseg::_base_/datasets/ade20k.py'
num_classes = 150
main_loss = dict(type='CrossEntropyLoss', avg_non_ignore=True)
crop_size = (520, 520)
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'PhotoMetricDistortion']
train_pipeline[3].crop_size = crop_size  # RandomCrop
train_dataloader = dict(
    sampler=dict(type='DefaultSampler'),
    drop_last=True,  # a last batch of one image fails in ASPP's BN
    dataset=dict(pipeline=train_pipeline),
)
