# What training by epoch needs of a data loader, of every dataset. A dataset's file moves it with `_base_.pop`.
epoch_loader = dict(
    sampler=dict(type='DefaultSampler'),
    drop_last=True,  # a last batch of one image fails in ASPP's BN
)
