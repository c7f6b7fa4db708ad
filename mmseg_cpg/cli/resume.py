"""Chooses the checkpoint from which a training run is resumed."""

from __future__ import annotations

import os.path as osp
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .checkpoint import load_checkpoint
from .errors import UserError

TRAINING_STATE = ('meta', 'message_hub', 'optimizer')


def resume_from(cfg: Config, checkpoint: str) -> list[str]:
    """Make a config resume from a checkpoint.

    Args:
        cfg: The config.
        checkpoint: File or address, or 'auto' for the newest in the work dir that can be resumed. If there is none,
            training starts from the beginning.

    Returns:
        Warnings, one line each: which newer checkpoints were skipped and why.

    Raises:
        UserError: The checkpoint cannot be resumed.
    """
    chosen: str | None = checkpoint
    remarks: list[str] = []
    if checkpoint != 'auto':
        _require_training_state(checkpoint)
    else:
        hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        chosen, remarks = find_newest_checkpoint(cfg.work_dir, hook.get('out_dir'))
        if chosen is None and (remarks or _has_run(cfg.work_dir)):
            remarks.append(f"No checkpoint in '{cfg.work_dir}' can be resumed: training starts from the beginning.")
        elif remarks:
            remarks.append(f"Resuming from '{chosen}' instead.")
    cfg.resume = chosen is not None
    cfg.load_from = chosen or cfg.get('load_from')
    return remarks


def find_newest_checkpoint(
    work_dir: str, out_dir: str | None = None, require: Callable[[str], Any] | None = None
) -> tuple[str | None, list[str]]:
    """Find the newest usable checkpoint of a work dir, which may not be MMEngine's ``last_checkpoint``.

    Args:
        work_dir: The work dir.
        out_dir: That of ``CheckpointHook``, in which it makes a folder with the name of the work dir.
        require: Raises :class:`UserError` for a checkpoint that is not usable. Defaults to None: it can be resumed.

    Returns:
        Its path, None if there is none, and the reasons why newer ones were skipped.
    """
    skipped = []
    for path in _newest_first(work_dir, out_dir):
        try:
            (require or _require_training_state)(path)
        except UserError as error:
            skipped.append(str(error))
        else:
            return path, skipped
    return None, skipped


def _has_run(work_dir: str) -> bool:
    """Whether there are signs of earlier training in a work dir."""
    return osp.exists(osp.join(work_dir, 'last_checkpoint')) or any(Path(work_dir).glob('*/*.log'))


def _newest_first(work_dir: str, out_dir: str | None) -> list[str]:
    """The checkpoints in a work dir and the one in its ``last_checkpoint``, newest first."""
    named = _last_checkpoint(work_dir)
    if named is not None and ('://' in named or osp.isdir(named)):  # remote storage; DeepSpeed's checkpoints
        return [named]
    folders = {Path(work_dir)} if named is None else {Path(work_dir), Path(named).parent}
    if out_dir is not None:
        folders.add(Path(out_dir, Path(work_dir).resolve().name))
    found = [path for folder in folders for path in folder.glob('*.pth') if not path.name.startswith('best_')]
    found.sort(key=_written, reverse=True)
    if named is None:
        return list(map(str, found))
    if not osp.exists(named):
        return [named, *map(str, found)]  # first, so that it is reported as missing
    # A process may have been killed between writing a checkpoint and writing its name. Checkpoints are later only by
    # time and number, which excludes copies and those of an earlier, longer run.
    last, noted = Path(named), _written(Path(work_dir, 'last_checkpoint'))
    later = [path for path in found if _written(path) > noted and _number(path) > _number(last)]
    others = [path for path in found if path not in later and path != last]
    return list(map(str, [*later, last, *others]))


def _last_checkpoint(work_dir: str) -> str | None:
    """The path in MMEngine's ``last_checkpoint``; None if there is no such file or it contains none."""
    try:
        text = Path(work_dir, 'last_checkpoint').read_text().strip()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    return text if text.isprintable() and text else None


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


def _number(path: Path) -> int:
    """The epoch or iteration in the name of a checkpoint, -1 if there is none."""
    number = re.search(r'(\d+)\.pth$', path.name)
    return int(number[1]) if number else -1


def _require_training_state(path: str) -> None:
    """Raise :class:`UserError` unless a checkpoint contains the training state that MMEngine resumes."""
    if osp.isdir(path):
        return
    checkpoint = load_checkpoint(path)
    parts = [checkpoint.get(key) for key in TRAINING_STATE] if isinstance(checkpoint, dict) else []
    states = [part for part in parts if isinstance(part, dict)]
    if len(states) < len(TRAINING_STATE):
        raise UserError(
            f"Checkpoint '{path}' has no training state to resume. "
            'To start from its weights, leave --resume out and set --cfg-options load_from=CHECKPOINT.'
        )
    meta, hub, _ = states
    counts = [meta.get('epoch'), meta.get('iter')]
    if not all(type(count) is int and count >= 0 for count in counts) or not all(
        isinstance(hub.get(key), dict) for key in ('log_scalars', 'runtime_info', 'resumed_keys')
    ):
        raise UserError(f"Checkpoint '{path}' cannot be resumed: its progress or its log is missing.")
