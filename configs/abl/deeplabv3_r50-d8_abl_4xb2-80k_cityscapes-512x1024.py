# MMSegmentation's deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024 with the total loss of arXiv 2102.02696 on the final
# head: with the Lovász-softmax and the Active Boundary Loss, its distances precomputed while loading; same schedule.
#     tools/dist_train.sh configs/abl/deeplabv3_r50-d8_abl_4xb2-80k_cityscapes-512x1024.py 4
_base_ = 'mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024.py'
model = _base_.model
model.decode_head.loss_decode = [
    model.decode_head.loss_decode,
    dict(type='LovaszLoss', reduction='none', loss_weight=1.0),
    dict(type='mmseg_cpg.ActiveBoundaryLoss', loss_weight=1.0),
]
train_pipeline = [
    *_base_.train_pipeline,
    dict(type='mmseg_cpg.BoundaryDistanceFromLabel', pad_size=_base_.crop_size),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [dict(type='mmseg_cpg.BoundaryTargetHook')]
