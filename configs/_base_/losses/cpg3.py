# A config moves this into its head with `_base_.pop('cpg_loss')`: left behind at the top level,
# it would be a second copy that `--cfg-options cpg_loss.loss_weight=...` changes to no effect.
cpg_loss = dict(type='mmseg_cpg.CPGLoss', ksize=3, loss_weight=1.0, ignore_policy='as_background')
