# Tiles of the Blue Marble mosaic, written by tools/dataset_converters/blue_marble.py.
_base_ = '../../_base_/datasets/train_val_folders.py'
data_root = 'data/blue_marble'
metainfo = dict(
    classes=('ocean', 'inland water', 'forest', 'shrub/grass', 'crop/urban', 'barren/ice'),
    palette=[[31, 90, 200], [0, 215, 255], [0, 105, 35], [185, 200, 70], [240, 130, 40], [235, 235, 235]],
)
# Tiles are scaled by 2, so that the output stride of 8 corresponds to 4 pixels of the label.
scale = (512, 512)
crop_size = (256, 256)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.5),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After resizing the image: the label keeps its size, and predictions are scaled back to it.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

dataset = dict(data_root=data_root, img_suffix='.png', metainfo=metainfo)
train_dataloader = dict(batch_size=8, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [dict(type='IoUMetric', iou_metrics=['mIoU']), dict(type='mmseg_cpg.BoundaryMetric')]
test_evaluator = val_evaluator
