# DeepLabv3-R101 on Pascal VOC 2012 + Aug, cross-entropy alone, the baseline of this folder: the paper's
# DeepLabv2-R101 has 74.6 mIoU (Table 2). 1 GPU x 2 images make the paper's total batch of 2:
#     python tools/train.py configs/locally_adaptive/deeplabv3_r101_voc12aug_baseline.py
# Differs from the paper: DeepLabv3, with its auxiliary head, in place of DeepLabv2 (MMSegmentation has none), its
# bilinear upsampling in place of learned deconvolution, other pretrained weights. Not in the paper, so
# as in MMSegmentation: weight decay 5e-4, crops with at most 75 % of one class, trainable batch norms. The
# decay rate of 0.9 is interpreted as the power of the polynomial schedule.
_base_ = 'mmseg::deeplabv3/deeplabv3_r101-d8_4xb4-20k_voc12aug-512x512.py'
crop_size = (321, 321)
data_preprocessor = dict(size=crop_size)
model = dict(data_preprocessor=data_preprocessor)

# The longer side of the images is 500 px, so a ratio of 1 keeps their size.
scale = (500, 500)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.5, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = _base_.train_dataloader
train_dataloader.batch_size = 2
train_dataloader.dataset.datasets[0].pipeline = train_pipeline
train_dataloader.dataset.datasets[1].pipeline = train_pipeline
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optimizer = dict(lr=2.5e-4)
optim_wrapper = dict(optimizer=optimizer)
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=20000, by_epoch=False)]
auto_scale_lr = dict(enable=False, base_batch_size=2)
