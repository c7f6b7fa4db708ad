_base_ = './cpg3.py'
cpg_loss = dict(ignore_policy='exclude')
