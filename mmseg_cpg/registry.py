"""MMSegmentation's registries in this package's scope, which a config that inherits ``mmseg_cpg::...`` builds in.

MMEngine imports this module when it meets the scope; nothing is registered here, ``import mmseg_cpg`` does that.
"""

from mmengine.registry import Registry
from mmseg import registry
from mmseg.utils import register_all_modules

register_all_modules(init_default_scope=False)
for name in registry.__all__:
    parent = getattr(registry, name)
    Registry(parent.name, parent=parent, scope='mmseg_cpg', locations=['mmseg_cpg'])
