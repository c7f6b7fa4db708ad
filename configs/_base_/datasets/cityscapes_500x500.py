_base_ = 'mmseg::_base_/datasets/cityscapes.py'
crop_size = (500, 500)
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size  # RandomCrop
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
