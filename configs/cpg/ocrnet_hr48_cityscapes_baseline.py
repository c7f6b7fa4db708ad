# OCRNet-HRNetV2-W48 on Cityscapes, BCE alone: 81.56 mIoU in the paper (Table 3).
# 8 GPUs x 1 image make the paper's total batch of 8:
#     tools/dist_train.sh configs/cpg/ocrnet_hr48_cityscapes_baseline.py 8
# Differs from the paper: no auto-labeled images by default; other pretrained weights.
_base_ = [
    '../_base_/models/ocrnet_hr48.py',
    '../_base_/datasets/cityscapes_1024x2048.py',
    '../_base_/schedules/schedule_175e.py',
    '../_base_/default_runtime.py',
]
data_preprocessor = dict(size=_base_.crop_size)
model = dict(data_preprocessor=data_preprocessor)
# A list of heads, which a dict above could not merge with.
_base_.model.decode_head[0].merge(_base_.head)
_base_.model.decode_head[1].merge(_base_.head)
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
