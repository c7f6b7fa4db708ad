# MMSegmentation's deeplabv3_r50-d8_4xb4-40k_coco-stuff10k-512x512 with CPG7 on the final head; schedule unchanged.
#     tools/dist_train.sh configs/cpg_stock/deeplabv3_r50-d8_cpg7_4xb4-40k_coco-stuff10k-512x512.py 4
_base_ = ['mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-40k_coco-stuff10k-512x512.py', '../_base_/losses/cpg7_exclude.py']
model = _base_.model
model.decode_head.loss_decode = [model.decode_head.loss_decode, _base_.pop('cpg_loss')]
