# DeepLabv3-R50 on Cityscapes, BCE alone: 76.75 mIoU in the paper (Table 2, lambda 0; Tables 1, 3 and 4).
# 4 GPUs x 3 images make the paper's total batch of 12:
#     tools/dist_train.sh configs/cpg/deeplabv3_r50_cityscapes_baseline.py 4
# Differs from the paper: no auto-labeled images by default; 68.1 M parameters (paper: 42.3 M); other
# pretrained weights.
_base_ = [
    'mmseg::_base_/models/deeplabv3_r50-d8.py',
    '../_base_/datasets/cityscapes_1024x2048.py',
    '../_base_/schedules/schedule_175e.py',
    '../_base_/default_runtime.py',
]
data_preprocessor = dict(size=_base_.crop_size)
model = dict(data_preprocessor=data_preprocessor, decode_head=_base_.head, auxiliary_head=_base_.head)
train_dataloader = dict(batch_size=3)
auto_scale_lr = dict(base_batch_size=12)
