_base_ = ['mmseg::_base_/datasets/ade20k.py', './epoch_loader.py']
crop_size = (520, 520)
# Settings of every head of a model.
head = dict(num_classes=150, loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size  # RandomCrop
train_pipeline.pop(5)  # PhotoMetricDistortion
train_dataloader = dict(**_base_.pop('epoch_loader'), dataset=dict(pipeline=train_pipeline))
