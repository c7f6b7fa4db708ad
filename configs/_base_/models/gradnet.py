norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    pretrained=None,
    backbone=dict(type='mmseg_cpg.GraDNet', norm_cfg=norm_cfg),
    # Conv16 of the paper and nothing else.
    decode_head=dict(
        type='FCNHead',
        in_channels=16,
        channels=16,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
        num_classes=19,
        align_corners=False,
        # Eq. 1: first powers. With the softmax, void pixels get no gradient; with the sigmoid they would.
        loss_decode=dict(type='DiceLoss', use_sigmoid=False, naive_dice=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
