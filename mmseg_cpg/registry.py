"""MMSegmentation's registries in this package's scope, which a config that inherits ``mmseg_cpg::...`` builds in.

MMEngine imports this module when it meets the scope. Nothing is registered here: the classes of this package are in
MMSegmentation's own registries.
"""

from mmengine.registry import Registry
from mmseg import registry


class _ScopedRegistry(Registry):
    """A registry without modules of its own that finds those of its parent."""

    def import_from_location(self) -> None:
        self.parent.import_from_location()


for name in registry.__all__:
    parent = getattr(registry, name)
    _ScopedRegistry(parent.name, parent=parent, scope='mmseg_cpg')
