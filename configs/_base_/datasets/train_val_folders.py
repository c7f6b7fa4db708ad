# Images in img_dir/{train,val} and labels in ann_dir/{train,val}. Configs that inherit this set data_root, suffixes,
# metainfo and pipelines.
train_dataloader = dict(
    batch_size=4,
    # With none, the augmentations would share their random numbers with the network's dropout.
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        seg_map_suffix='.png',
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        seg_map_suffix='.png',
    ),
)
val_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='mmseg_cpg.BoundaryMetric', width_px=3)]
test_dataloader = val_dataloader
test_evaluator = val_evaluator
