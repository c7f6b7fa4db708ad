# Serial-section electron microscopy of neural tissue (Gerhard et al. 2013), 13 training and 3 validation sections at
# half their size, 512x512; tools/dataset_converters/sstem.py --size 512 converts its public layout.
_base_ = '../../_base_/datasets/train_val_folders.py'
data_root = 'data/sstem_512x512'
metainfo = dict(
    classes=('membrane', 'glia/extracellular', 'mitochondria', 'synapse', 'intracellular'),
    palette=[[255, 255, 255], [120, 120, 120], [230, 60, 60], [255, 220, 0], [40, 90, 160]],
)
crop_size = (128, 128)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    # Sections have no upright orientation.
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]

dataset = dict(data_root=data_root, img_suffix='.png', metainfo=metainfo)
train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
