_base_ = 'mmseg::_base_/models/ocrnet_hr18.py'
widths = [48, 96, 192, 384]  # of HRNetV2-W48's four branches
model = dict(
    pretrained='open-mmlab://msra/hrnetv2_w48',
    backbone=dict(extra={f'stage{n}': dict(num_channels=tuple(widths[:n])) for n in (2, 3, 4)}),
    decode_head=[
        dict(_base_.model.decode_head[0], in_channels=widths, channels=sum(widths)),
        dict(_base_.model.decode_head[1], in_channels=widths),
    ],
)
