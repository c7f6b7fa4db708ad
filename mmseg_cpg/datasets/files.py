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
    # The folders on the way to each, without links.
    trails = {str(folder): [osp.realpath(folder)]}
    for path, subfolders, names in os.walk(folder, followlinks=True):
        trail = trails.pop(path)
        real = {name: osp.realpath(osp.join(path, name)) for name in subfolders}
        # Skip links to a folder on the way here or to one that contains it, which form loops.
        subfolders[:] = [name for name in subfolders if not any(_contains(real[name], each) for each in trail)]
        trails.update({osp.join(path, name): [*trail, real[name]] for name in subfolders})
        for name in names:
            if name.endswith(suffix) and not name.startswith('.') and osp.isfile(osp.join(path, name)):
                yield osp.relpath(osp.join(path, name), folder)


def _contains(folder: str, path: str) -> bool:
    return osp.commonpath([folder, path]) == folder
