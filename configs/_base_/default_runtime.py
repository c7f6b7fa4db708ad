_base_ = 'mmseg::_base_/default_runtime.py'
# Registers CPGLoss, so that MMSegmentation's own tools can use these configs too.
custom_imports = dict(imports=['mmseg_cpg'], allow_failed_imports=False)
log_processor = dict(by_epoch=True)
# With a CPG loss, logs its share of the total and the boundary's share of the pixels.
custom_hooks = [dict(type='CPGLogHook')]
