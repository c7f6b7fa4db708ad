_base_ = './cpg7.py'
cpg_loss = dict(ignore_policy='exclude')
