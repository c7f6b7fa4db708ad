# The same training with CPG loss added to cross-entropy on the decode head; nothing else differs.
_base_ = './fast_scnn_1xb8-600i_blue-marble-256x256.py'
model = _base_.model
model.decode_head.loss_decode = [
    model.decode_head.loss_decode,
    dict(type='mmseg_cpg.CPGLoss', ksize=3, loss_weight=1.0),
]
