# The same config with binary cross-entropy per class, as in the paper on Cityscapes, but summed over the classes as CPG
# is, not averaged: the same weights of CPG are then as large beside it as beside cross-entropy.
_base_ = './efficientnet-lite0_segformer_1xb4-1800i_camvid-192x256.py'
# MMSegmentation multiplies the positive part, (B, C, H, W), by the class weights.
positive_weight = [[[weight]] for weight in _base_.class_weight]
num_classes = len(_base_.class_weight)
model = dict(
    decode_head=dict(
        loss_decode=dict(use_sigmoid=True, class_weight=positive_weight, loss_weight=float(num_classes)),
    )
)
