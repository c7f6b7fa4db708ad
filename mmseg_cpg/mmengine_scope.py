"""Letting configs inherit ``mmseg::...`` and ``mmseg_cpg::...``, however the two are installed."""

from mmengine.config.utils import MODULE2PACKAGE


def register_packages() -> None:
    """Tell MMEngine where the configs of ``mmseg`` and of this package are.

    MMEngine looks up the distribution of that name, and if there is none, the module. The module
    is found in every case: in stock and onedl-mmsegmentation, whose names differ, in an editable install, whose
    distribution does not record where the code is, and on ``PYTHONPATH``.
    """
    for package in ('mmseg', 'mmseg_cpg'):
        MODULE2PACKAGE[package] = f'{package}.version'
