"""Files that several processes write and that must survive crashes and full disks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Write a file completely, or if that fails leave it unchanged."""
    partial = path.with_name(f'.{path.name}.partial')
    try:
        partial.write_text(text)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def wait_for_lock(file: Any) -> None:
    """Lock an open file, waiting for other processes. Does nothing on file systems without locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def try_lock(file: Any) -> bool:
    """Lock an open file and return True, or return False if another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some cluster file systems have no locks
    return True
