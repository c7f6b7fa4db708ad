# MMSegmentation's deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024 with CPG3 on the final head; schedule unchanged.
#     tools/dist_train.sh configs/cpg_stock/deeplabv3_r50-d8_cpg3_4xb2-80k_cityscapes-512x1024.py 4
_base_ = ['mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024.py', '../_base_/losses/cpg3_exclude.py']
model = _base_.model
model.decode_head.loss_decode = [model.decode_head.loss_decode, _base_.pop('cpg_loss')]
