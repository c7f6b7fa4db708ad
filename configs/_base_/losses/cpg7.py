_base_ = './cpg3.py'
cpg_loss = dict(ksize=7, loss_weight=1.5)
