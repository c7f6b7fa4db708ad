"""Loads checkpoints without running code from them, and reports problems in one line.

From 2.6 on, torch loads only tensors and plain Python values by default (``weights_only``). MMEngine also saves its
logs, so stock MMEngine 0.10 can neither resume from nor test its own checkpoints there. Here the check stays enabled,
and :mod:`mmseg_cpg.engine.safe_unpickling` allows the logs. As documented by torch,
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` disables the check for a file that you trust.
"""

from __future__ import annotations

import functools
import os.path as osp
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_http

from ..engine.safe_unpickling import allow_training_logs
from .errors import UserError, describe


def load_checkpoint(path: str) -> Any:
    """Load a checkpoint to the CPU; raise :class:`UserError` if it is missing, corrupt or refused."""
    allow_training_logs()
    return CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')


def require_checkpoint(path: str | None) -> None:
    """Raise :class:`UserError` if a local checkpoint does not exist. None and addresses (``scheme://``) pass."""
    if path is not None and '://' not in path and not osp.isfile(osp.expanduser(path)):
        raise UserError(f"Checkpoint '{path}' not found.")


@contextmanager
def fitting(path: str | None) -> Iterator[None]:
    """Turn errors of MMEngine while it applies a checkpoint into :class:`UserError`."""
    try:
        yield
    except (UserError, torch.cuda.OutOfMemoryError):
        raise
    except URLError as error:
        raise UserError(f"Checkpoint '{path}' could not be downloaded ({error}).") from error
    except Exception as error:  # depends on the content of the checkpoint
        raise UserError(f"Checkpoint '{path}' does not fit the config: {describe(error).rstrip('.')}.") from error


def load_from_local(filename: str, map_location: Any) -> Any:
    # Replaces MMEngine's loader, which does not verify checksums. That of onedl-mmengine also allows getattr itself
    # and clears torch's allow-list.
    path = osp.expanduser(filename)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f'the checksum of {damaged} is wrong')
    return torch.load(path, map_location)


def _in_one_line(loader: Callable) -> Callable:
    """Make one of MMEngine's loaders raise :class:`UserError` for a file that is missing, corrupt or refused."""

    @functools.wraps(loader)
    def load(filename: str, map_location: Any = None) -> Any:
        try:
            return loader(filename, map_location)
        except FileNotFoundError as error:
            raise UserError(f"Checkpoint '{filename}' not found.") from error
        except (URLError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # unpickling raises errors of many types
            if isinstance(error, OSError) and error.filename is not None:
                raise UserError(f"Checkpoint '{filename}' cannot be read: {error.strerror}.") from error
            refused = re.search(r'GLOBAL (\S+)', str(error))
            if refused is None:
                reason = _reason(error)
                raise UserError(f"Checkpoint '{filename}' is corrupt or not a checkpoint ({reason}).") from error
            raise UserError(
                f"Checkpoint '{filename}' was refused: it contains {refused[1]}, and only tensors, plain values and "
                "MMEngine's logs are loaded, since anything else could run code. If you trust the file, "
                'set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1.'
            ) from error

    return load


def _reason(error: Exception) -> str:
    """The first sentence of an error, or the message of torch's unpickler without its advice to disable the check."""
    own = re.search('WeightsUnpickler error: (.+)', str(error))
    return re.split(r'\. |\.?\n', own[1] if own else describe(error))[0]


CheckpointLoader.register_scheme('', _in_one_line(load_from_local), force=True)
CheckpointLoader.register_scheme(('http://', 'https://'), _in_one_line(load_from_http), force=True)
