"""Reading configs, MMSegmentation's own included, with the user's mistakes named in one line."""

import os.path as osp
import traceback

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from .errors import UserError


def load_config(args):
    """Read a tool's config and apply its command line.

    Args:
        args (Namespace): ``config``, ``cfg_options``, ``launcher`` and ``work_dir``.

    Returns:
        Config: The config, its ``work_dir`` taken from the command line, else the config, else its file name.

    Raises:
        UserError: If the config, or one that it inherits, is missing or cannot be read, or an option does not fit it.
    """
    cfg = read_config(args.config)
    apply_command_line(cfg, args)
    return cfg


def read_config(path):
    """Read a config; raise :class:`UserError` if it, or one that it inherits, is missing or cannot be read."""
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        if osp.isfile(path):  # one that it inherits is missing
            raise UserError(f"Config '{path}' cannot be read: {error}.") from error
        fault = 'is a folder: name a file in it' if osp.isdir(path) else 'not found'
        raise UserError(f"Config '{path}' {fault}.") from error
    except ConfigParsingError as error:
        raise UserError(f"Config '{path}' cannot be read: {error}.") from error
    except SyntaxError as error:
        raise UserError(f"Config '{path}' has a syntax error: {error}.") from error
    except ModuleNotFoundError:
        raise
    except UserError:
        raise
    except Exception as error:
        message = _fault_of_config(error)
        if message is None:
            raise
        raise UserError(f"Config '{path}' cannot be used: {message}.") from error


def apply_command_line(cfg, args):
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


def _fault_of_config(error):
    """Say in one line what is wrong with a config that raised an error when read; None if it is not to blame."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    module = frame.f_globals.get('__name__')
    if module is None:  # a line of a config, which is run under no name
        return f'line {line} of {frame.f_code.co_filename} raises {type(error).__name__}: {error}'
    # custom_imports; keys of two bases that clash; the file type; a dict over a list.
    if isinstance(error, (ImportError, KeyError, OSError)) or module.startswith('mmengine.config.'):
        return str(error.args[0]).splitlines()[0]
    return None


def _list_on_the_way(cfg, key):
    """Name the first list in a config that a dotted key passes without a position; None if there is none."""
    node, path = cfg, []
    for part in key.split('.'):
        if isinstance(node, (list, tuple)) and not part.isdecimal():
            return f'{".".join(path)} is a list of {len(node)}, write {".".join([*path, "N", part])} with N from 0'
        try:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        except (LookupError, TypeError):
            return None
        path.append(part)
    return None


def require_keys(cfg, *keys):
    """Raise :class:`UserError` if the config lacks one of the keys."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise UserError(f"Config '{cfg.filename}' does not set {', '.join(missing)}.")
