# DeepLabv3-R50 on ADE20K, CE alone: 40.18 mIoU in the paper (Table 3).
# 8 GPUs x 2 images make the paper's total batch of 16:
#     tools/dist_train.sh configs/cpg/deeplabv3_r50_ade20k_baseline.py 8
# Differs from the paper: 68.2 M parameters (paper: 42.3 M); other pretrained weights.
_base_ = [
    'mmseg::_base_/models/deeplabv3_r50-d8.py',
    '../_base_/datasets/ade20k_520x520.py',
    '../_base_/schedules/schedule_175e.py',
    '../_base_/default_runtime.py',
]
data_preprocessor = dict(size=_base_.crop_size)
model = dict(data_preprocessor=data_preprocessor, decode_head=_base_.head, auxiliary_head=_base_.head)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
