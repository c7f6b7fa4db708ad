# LRASPP-MobileNetV3-L on Cityscapes, BCE alone: 72.26 mIoU in the paper (Table 3).
# 8 GPUs x 2 images make the paper's total batch of 16:
#     tools/dist_train.sh configs/cpg/lraspp_m-v3_cityscapes_baseline.py 8
# Differs from the paper: no auto-labeled images by default; other pretrained weights.
_base_ = [
    '../_base_/models/lraspp_m-v3-d8.py',
    '../_base_/datasets/cityscapes_1024x2048.py',
    '../_base_/schedules/schedule_200e.py',
    '../_base_/default_runtime.py',
]
data_preprocessor = dict(size=_base_.crop_size)
model = dict(data_preprocessor=data_preprocessor, decode_head=_base_.head)
optim_wrapper = dict(optimizer=dict(lr=0.014))
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
