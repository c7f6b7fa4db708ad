"""User errors are shown as one line; a bug keeps its traceback.

The library raises ValueError and TypeError. The tools catch them where they read a config, build its parts or load a
checkpoint, and raise :class:`UserError`. ``python -X dev`` shows the traceback of a :class:`UserError` too.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

PEER_DELAY_S = 5
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """An error that the user can fix. The message is one line that names the problem and what to do about it."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with one line and status 1 on a :class:`UserError`. Every other exception passes through.

    Raises:
        SystemExit: In place of a :class:`UserError`.
    """
    try:
        yield
    except UserError as error:
        if sys.flags.dev_mode:
            raise
        _exit(str(error))


@contextmanager
def user_errors(prefix: str = '') -> Iterator[None]:
    """Turn the library's ValueError and TypeError into :class:`UserError`, whose message starts with a prefix."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UserError(f'{prefix}{str(error).rstrip(".")}.') from error


@contextmanager
def building() -> Iterator[None]:
    """Turn any error raised while a part of the config is built into :class:`UserError`."""
    try:
        yield
    except UserError:
        raise
    except URLError as error:
        raise UserError(
            f'Pretrained weights could not be downloaded ({error}). Check the network, or disable them, '
            'for most models with --cfg-options model.pretrained=None or model.backbone.init_cfg=None.'
        ) from error
    except Exception as error:  # which one depends on the class that is built
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        reason = describe(error).rstrip('.')
        raise UserError(f'The config cannot be built: {reason}. (python -X dev shows the traceback.)') from error


def describe(error: BaseException) -> str:
    """The type and the first line of the message of an error."""
    # str() of a KeyError puts the message in quotes.
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    lines = str(message).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _exit(message: str) -> None:
    # Only local rank 0 prints. The other processes of the node wait, because torchrun ends all of them as soon as one
    # has exited, and print only if they are still running, which means that rank 0 has no error.
    if os.environ.get('LOCAL_RANK', '0') != '0':
        time.sleep(PEER_DELAY_S)
    sys.exit(f'Error: {message}')
