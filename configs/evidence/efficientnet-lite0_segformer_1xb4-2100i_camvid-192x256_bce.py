# The same config with binary cross-entropy per class, as in the paper on Cityscapes.
_base_ = './efficientnet-lite0_segformer_1xb4-2100i_camvid-192x256.py'
model = dict(decode_head=dict(loss_decode=dict(use_sigmoid=True)))
