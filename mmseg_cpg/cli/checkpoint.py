"""Checkpoints: loading what training wrote, and running no code from a file that came from elsewhere.

From 2.6 on, torch loads only tensors and plain Python values unless told otherwise (``weights_only``). MMEngine also
saves its logs, so stock MMEngine 0.10 can neither resume from nor test its own checkpoints there. The check stays on
here; what MMEngine's logs are made of is put on torch's allow-list, and nothing else. As torch documents,
``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` switches the check off for a file that you trust.
"""

import functools
import os
import os.path as osp
import pickle
import re
import traceback

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from mmengine.runner.checkpoint import load_from_http
from mmengine.utils import digit_version

from .errors import UserError

STATISTICS = ('min', 'max', 'current', 'mean')


def allow_training_logs():
    """Let ``torch.load`` read the :class:`HistoryBuffer` objects of a training checkpoint, and check downloads too.

    Before torch 2.6, which neither checks by default nor can be told the names below, this does nothing.
    """
    if digit_version(torch.__version__) < digit_version('2.6'):
        return
    number_codes = np.typecodes['AllInteger'] + np.typecodes['Float'] + '?'
    scalar, reconstruct = np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (_history_statistic, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *{type(np.dtype(code)) for code in number_codes},
            # numpy 2 moved its core; checkpoints come from both sides.
            *((scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
            *((reconstruct, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
        ]
    )
    # torch.hub, through which MMEngine downloads, asks for no check; this variable turns it on there as well.
    if 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ:
        os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')


def _history_statistic(owner, name):
    """Stand in for ``getattr``, by which a pickled HistoryBuffer names its four statistics."""
    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported global: GLOBAL builtins.getattr for {name!r}')


def _load_from_local(filename, map_location):
    # In place of onedl-mmengine's loader, which allows the whole of getattr and takes every name off the list again.
    return torch.load(osp.expanduser(filename), map_location)


def _in_one_line(loader):
    """Make one of MMEngine's loaders raise :class:`UserError` for a file that is missing, damaged or refused."""

    @functools.wraps(loader)
    def load(filename, map_location=None):
        try:
            return loader(filename, map_location)
        except FileNotFoundError as error:
            raise UserError(f"Checkpoint '{filename}' not found.") from error
        except Exception as error:  # what comes out of unpickling depends on the bytes
            found = re.search(r'GLOBAL (\S+)', str(error))
            if found is None and _means_damage(error):
                # What torch goes on with is advice to switch its check off.
                reason = re.split(r'\. |\.?\n', traceback.format_exception_only(error)[-1])[0]
                raise UserError(f"Checkpoint '{filename}' is damaged, or is no checkpoint ({reason}).") from error
            if found is None:
                raise
            raise UserError(
                f"Checkpoint '{filename}' was refused: it holds {found[1]}, and only tensors, plain values and "
                "MMEngine's logs are loaded, since anything else could run code. If you trust the file, "
                'set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1.'
            ) from error

    return load


def _means_damage(error):
    if isinstance(error, RuntimeError):
        return 'PytorchStreamReader' in str(error)
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals.get('__name__') in ('torch.serialization', 'torch._weights_only_unpickler')


CheckpointLoader.register_scheme('', _in_one_line(_load_from_local), force=True)
CheckpointLoader.register_scheme(('http://', 'https://'), _in_one_line(load_from_http), force=True)


def require_checkpoint(path):
    """Raise :class:`UserError` if a local checkpoint does not exist. None and addresses (``scheme://``) pass."""
    if path is not None and '://' not in path and not osp.isfile(osp.expanduser(path)):
        raise UserError(f"Checkpoint '{path}' not found.")


def resume_from(cfg, checkpoint):
    """Make a config resume from a checkpoint, or from the latest one in its work dir if ``checkpoint`` is 'auto'.

    Without a latest one, training starts as it would without resuming.
    """
    if checkpoint == 'auto':
        checkpoint = find_latest_checkpoint(cfg.work_dir)
    cfg.resume = checkpoint is not None
    cfg.load_from = checkpoint or cfg.get('load_from')
