# DeepLabv3-R101 on Pascal VOC 2012 + Aug, locally adaptive loss with ksize 3 in place of cross-entropy: the paper's
# DeepLabv2-R101 has 75.7 mIoU (Table 2), 74.6 with cross-entropy. 1 GPU x 2 images make the paper's total batch of 2:
#     python tools/train.py configs/locally_adaptive/deeplabv3_r101_voc12aug_lad3.py
# Same deviations from the paper as deeplabv3_r101_voc12aug_baseline.py, whose auxiliary head keeps its cross-entropy.
_base_ = './deeplabv3_r101_voc12aug_baseline.py'
model = dict(
    decode_head=dict(loss_decode=dict(_delete_=True, type='mmseg_cpg.LocallyAdaptiveLoss', ksize=3, loss_weight=1.0))
)
