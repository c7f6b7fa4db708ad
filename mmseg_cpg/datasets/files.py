from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterator
from pathlib import Path


def list_files(folder: str | Path, suffix: str) -> Iterator[str]:
    """List the files in a folder and its subfolders, following symbolic links, which may form loops.

    Args:
        folder: The folder.
        suffix: Suffix of the file names.

    Yields:
        Paths relative to the folder. Hidden files are skipped, as in MMEngine.
    """
    for path, subfolders, names in os.walk(folder, followlinks=True):
        here = osp.realpath(path)
        # Skip links to this folder or its parents, which form loops.
        subfolders[:] = [name for name in subfolders if not _contains(osp.realpath(osp.join(path, name)), here)]
        for name in names:
            if name.endswith(suffix) and not name.startswith('.') and osp.isfile(osp.join(path, name)):
                yield osp.relpath(osp.join(path, name), folder)


def _contains(folder: str, path: str) -> bool:
    return osp.commonpath([folder, path]) == folder
