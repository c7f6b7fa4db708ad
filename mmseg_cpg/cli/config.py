"""Reading configs."""

from __future__ import annotations

import os.path as osp
import traceback
from argparse import Namespace
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from .errors import UserError, describe


def load_config(args: Namespace) -> Config:
    """Read a tool's config and apply its command line.

    Args:
        args: ``config``, ``cfg_options``, ``launcher`` and ``work_dir``.

    Returns:
        The config. Its ``work_dir`` comes from the command line, else from the config, else from its file name.

    Raises:
        UserError: The config, or one that it inherits, is missing or cannot be read, or an option does not fit it.
    """
    cfg = read_config(args.config)
    apply_command_line(cfg, args)
    return cfg


def read_config(path: str) -> Config:
    """Read a config; raise :class:`UserError` if it, or one that it inherits, is missing or cannot be read."""
    if not osp.isfile(path):
        fault = 'is a folder: name a file in it' if osp.isdir(path) else 'not found'
        raise UserError(f"Config '{path}' {fault}.")
    try:
        return Config.fromfile(path)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        hint = "install 'setuptools<81'" if error.name == 'pkg_resources' else 'install the package, or check the name'
        raise UserError(f"Config '{path}' cannot be read ({error}): {hint}.") from error
    except SyntaxError as error:
        raise UserError(f"Config '{path}' has a syntax error: {error}.") from error
    except (ConfigParsingError, OSError) as error:
        raise UserError(f"Config '{path}' cannot be read: {error}.") from error
    except Exception as error:  # a config is code
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = describe(error).rstrip('.')
        raise UserError(f"Config '{path}' cannot be read: {reason} ({place.filename}, line {place.lineno}).") from error


def apply_command_line(cfg: Config, args: Namespace) -> None:
    """Apply a tool's command line, as :func:`load_config` takes it, to a config; raise :class:`UserError` likewise."""
    for key, value in (args.cfg_options or {}).items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError) as error:
            reason = _list_on_the_way(cfg, key) or error.args[0]
            raise UserError(f'--cfg-options do not fit the config: {key}={value}: {reason}.') from error
    cfg.setdefault('default_scope', 'mmseg')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])


def _list_on_the_way(cfg: Config, key: str) -> str | None:
    """Name the first list in a config that a dotted key passes without a position; None if there is none."""
    node: Any = cfg
    path: list[str] = []
    for part in key.split('.'):
        if isinstance(node, (list, tuple)) and not part.isdecimal():
            return f'{".".join(path)} is a list of {len(node)}, write {".".join([*path, "N", part])} with N from 0'
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        except (LookupError, TypeError):
            return None
        path.append(part)
    return None


def require_keys(cfg: Config, *keys: str) -> None:
    """Raise :class:`UserError` if the config lacks one of the keys."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise UserError(f"Config '{cfg.filename}' does not set {', '.join(missing)}.")
