# LRASPP-MobileNetV3-L on ADE20K, CE alone: 33.59 mIoU in the paper (Table 3).
# 8 GPUs x 4 images make the paper's total batch of 32:
#     tools/dist_train.sh configs/cpg/lraspp_m-v3_ade20k_baseline.py 8
# Differs from the paper: other pretrained weights.
_base_ = [
    '../_base_/models/lraspp_m-v3-d8.py',
    '../_base_/datasets/ade20k_520x520.py',
    '../_base_/schedules/schedule_175e.py',
    '../_base_/default_runtime.py',
]
data_preprocessor = dict(size=_base_.crop_size)
model = dict(data_preprocessor=data_preprocessor, decode_head=_base_.head)
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
