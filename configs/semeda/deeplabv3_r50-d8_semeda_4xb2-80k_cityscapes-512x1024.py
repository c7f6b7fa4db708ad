# MMSegmentation's deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024 with the SEMEDA loss on the final head; schedule
# unchanged. First train the edge network once, on the labels of the same data:
#     python tools/train_edge_network.py configs/semeda/deeplabv3_r50-d8_semeda_4xb2-80k_cityscapes-512x1024.py \
#         --work-dir work_dirs/edge_network_cityscapes
#     tools/dist_train.sh configs/semeda/deeplabv3_r50-d8_semeda_4xb2-80k_cityscapes-512x1024.py 4
_base_ = 'mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-80k_cityscapes-512x1024.py'
model = _base_.model
model.decode_head.loss_decode = [
    model.decode_head.loss_decode,
    dict(type='mmseg_cpg.SEMEDALoss', checkpoint='work_dirs/edge_network_cityscapes/edge_network.pth', loss_weight=1.0),
]
