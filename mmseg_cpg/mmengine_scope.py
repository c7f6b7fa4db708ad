"""Makes ``mmseg::...`` and ``mmseg_cpg::...`` work in configs with any kind of installation."""

from mmengine.config.utils import MODULE2PACKAGE


def register_packages() -> None:
    """Register where MMEngine finds the configs of ``mmseg`` and of this package.

    MMEngine looks for a distribution of the registered name, then for a module. Modules are found in every case: for
    stock and OneDL's MMSegmentation, whose distributions have different names, for editable installs, whose
    distributions do not record the location of the code, and on ``PYTHONPATH``.
    """
    for package in ('mmseg', 'mmseg_cpg'):
        MODULE2PACKAGE[package] = f'{package}.version'
