_base_ = 'mmseg::_base_/schedules/schedule_160k.py'
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=1e-3))
param_scheduler = _base_.param_scheduler
param_scheduler[0].eta_min = 0.0
