# GraDNet on Cityscapes with a usable schedule: Adam, learning rate 1e-3 with polynomial decay, 160000 iterations.
# 4 GPUs x 4 images make a total batch of 16:
#     tools/dist_train.sh configs/gradnet/gradnet_4xb4-160k_cityscapes-500x500.py 4
# Differs from the paper: the schedule, and see README.md in this folder.
_base_ = [
    '../_base_/models/gradnet.py',
    '../_base_/datasets/cityscapes_500x500.py',
    '../_base_/schedules/schedule_160k_adam.py',
    'mmseg::_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size))
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(enable=False, base_batch_size=16)
