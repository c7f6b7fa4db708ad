# DeepLabv3-R50 on Cityscapes, BCE + RMI: 79.875 mIoU in the paper (Table 4; main loss weight 1.0, RMI 0.5).
# 4 GPUs x 3 images make the paper's total batch of 12:
#     tools/dist_train.sh configs/cpg/deeplabv3_r50_cityscapes_bce_rmi.py 4
# Differs from the paper: RMI without the BCE that the official code adds to it (the paper does not say which);
# no auto-labeled images by default; 68.1 M parameters (paper: 42.3 M); other pretrained weights.
_base_ = ['./deeplabv3_r50_cityscapes_baseline.py', '../_base_/losses/rmi.py']
model = _base_.model
model.decode_head.loss_decode = [model.decode_head.loss_decode, _base_.pop('rmi_loss')]
