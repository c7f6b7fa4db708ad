# Settings of the data loader for training by epoch. The config of a dataset moves them with `_base_.pop`.
epoch_loader = dict(
    sampler=dict(type='DefaultSampler'),
    drop_last=True,  # a last batch of one image fails in ASPP's BN
)
