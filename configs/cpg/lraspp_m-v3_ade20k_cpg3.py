# LRASPP-MobileNetV3-L on ADE20K, CE + CPG3: in Table 3 of the paper, which does not state its kernels.
# 8 GPUs x 4 images make the paper's total batch of 32:
#     tools/dist_train.sh configs/cpg/lraspp_m-v3_ade20k_cpg3.py 8
# Differs from the paper: the boundary is exact; lambda is 1.0 as in Table 2
# (--cfg-options model.decode_head.loss_decode.1.loss_weight=1.0);
# other pretrained weights.
_base_ = ['./lraspp_m-v3_ade20k_baseline.py', '../_base_/losses/cpg3.py']
model = _base_.model
model.decode_head.loss_decode = [model.decode_head.loss_decode, _base_.pop('cpg_loss')]
