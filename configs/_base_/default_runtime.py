_base_ = 'mmseg::_base_/default_runtime.py'
# Registers CPGLoss for MMSegmentation's own tools.
custom_imports = dict(imports=['mmseg_cpg'], allow_failed_imports=False)
log_processor = dict(by_epoch=True)
# Logs the CPG loss's share of the total and the share of boundary pixels.
custom_hooks = [dict(type='CPGLogHook')]
