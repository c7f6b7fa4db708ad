# MMSegmentation's ocrnet_hr48_4xb4-160k_ade20k-512x512 with CPG5 on the final head; schedule unchanged.
#     tools/dist_train.sh configs/cpg_stock/ocrnet_hr48_cpg5_4xb4-160k_ade20k-512x512.py 4
_base_ = ['mmseg::ocrnet/ocrnet_hr48_4xb4-160k_ade20k-512x512.py', '../_base_/losses/cpg5_exclude.py']
model = _base_.model
model.decode_head[-1].loss_decode = [model.decode_head[-1].loss_decode, _base_.pop('cpg_loss')]
