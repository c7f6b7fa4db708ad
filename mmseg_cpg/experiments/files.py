"""Files that several processes write, and that a crash or a full disk must not break."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole, or, if that fails, as it was before."""
    partial = path.with_name(f'.{path.name}.partial')
    try:
        partial.write_text(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def wait_for_lock(file: Any) -> None:
    """Wait until no other process has an open file locked, and lock it. Some file systems of clusters have no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def try_lock(file: Any) -> bool:
    """Lock an open file unless another process has it locked, and return whether it is free."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some file systems of clusters have no locks
    return True
