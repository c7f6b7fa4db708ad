_base_ = './cpg5.py'
cpg_loss = dict(ignore_policy='exclude')
