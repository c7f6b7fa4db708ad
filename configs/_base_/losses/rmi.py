# A config moves this into its head with `_base_.pop('rmi_loss')`, as it does with cpg3.py's.
rmi_loss = dict(type='mmseg_cpg.RMILoss', preset='official', loss_weight=0.5)
