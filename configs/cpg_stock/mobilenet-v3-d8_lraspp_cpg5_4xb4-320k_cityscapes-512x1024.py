# MMSegmentation's mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024 with CPG5 on the final head; schedule unchanged.
# It trains 160k iterations: the 320k of its name are in a key that MMSegmentation 1.x does not read.
#     tools/dist_train.sh configs/cpg_stock/mobilenet-v3-d8_lraspp_cpg5_4xb4-320k_cityscapes-512x1024.py 4
_base_ = [
    'mmseg::mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024.py',
    '../_base_/losses/cpg5_exclude.py',
]
model = _base_.model
model.decode_head.loss_decode = [model.decode_head.loss_decode, _base_.pop('cpg_loss')]
