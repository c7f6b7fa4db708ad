_base_ = './cpg3.py'
cpg_loss = dict(ksize=5, loss_weight=2.0)
