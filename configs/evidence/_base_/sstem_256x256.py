# Serial-section electron microscopy of neural tissue (Gerhard et al. 2013), 13 training and 3 validation sections of
# 1024x1024; tools/dataset_converters/sstem.py converts its public layout.
data_root = 'data/sstem'
metainfo = dict(
    classes=('membrane', 'glia/extracellular', 'mitochondria', 'synapse', 'intracellular'),
    palette=[[255, 255, 255], [120, 120, 120], [230, 60, 60], [255, 220, 0], [40, 90, 160]],
)
crop_size = (256, 256)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    # Sections have no upright orientation.
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]

dataset = dict(type='BaseSegDataset', data_root=data_root, img_suffix='.png', seg_map_suffix='.png', metainfo=metainfo)
# One worker: with none, the augmentations would share their random numbers with the network's dropout.
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='mmseg_cpg.BoundaryMetric', width_px=3)]
test_evaluator = val_evaluator
