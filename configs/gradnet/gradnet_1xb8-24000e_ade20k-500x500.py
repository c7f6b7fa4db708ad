# GraDNet on ADE20K with the schedule exactly as printed in the paper: Adam, learning rate 1e-6, 24000 epochs.
# One GPU as in the paper; 8 images, which the paper does not state:
#     python tools/train.py configs/gradnet/gradnet_1xb8-24000e_ade20k-500x500.py
# This trains 60.6 million iterations. gradnet_4xb4-160k_ade20k-500x500.py is recommended, or add
#     --cfg-options optim_wrapper.optimizer.lr=1e-3 train_cfg.max_epochs=200 train_cfg.val_interval=10
# Differs from the paper: see README.md in this folder.
_base_ = [
    '../_base_/models/gradnet.py',
    '../_base_/datasets/ade20k_500x500.py',
    '../_base_/datasets/epoch_loader.py',
    '../_base_/schedules/schedule_24000e_adam.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=_base_.crop_size), decode_head=dict(num_classes=150))
train_dataloader = dict(**_base_.pop('epoch_loader'), batch_size=8)
