# The same config with binary cross-entropy per class, as in the paper on Cityscapes.
_base_ = './unet_fcn_1xb4-1500i_sstem-128x128.py'
model = dict(decode_head=dict(loss_decode=dict(use_sigmoid=True)))
