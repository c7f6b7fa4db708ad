"""MMSegmentation's registries in the scope ``mmseg_cpg``, in which configs that inherit ``mmseg_cpg::...`` build.

MMEngine imports this module when it encounters the scope. Nothing is registered here: the classes of this package are
in MMSegmentation's own registries.
"""

from mmengine.registry import Registry
from mmseg import registry


class _ScopedRegistry(Registry):
    """An empty registry that falls back to its parent."""

    def import_from_location(self) -> None:
        self.parent.import_from_location()


for name in registry.__all__:
    parent = getattr(registry, name)
    _ScopedRegistry(parent.name, parent=parent, scope='mmseg_cpg')
