"""Atomic writes of checkpoints."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local file backend, writing atomically: a process that is killed leaves no partial checkpoints."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file under a temporary name next to its own, then rename it.

        Args:
            obj (bytes): Content of the file.
            filepath (str | Path): The file. Its folder is created if it does not exist.

        Raises:
            OSError: The file cannot be written; ``filename`` is its name. An existing file of that name is kept.
        """
        partial = f'{filepath}.partial'
        try:
            super().put(obj, partial)
            os.replace(partial, filepath)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.remove(partial)
            if isinstance(error, OSError):  # for a full disk the error has no file name
                raise type(error)(error.errno, error.strerror, str(filepath)) from error
            raise


def write_atomically() -> None:
    """Make MMEngine write all local checkpoints through :class:`AtomicLocalBackend`."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
