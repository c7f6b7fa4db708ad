"""Reading configs, MMSegmentation's own included, with the user's mistakes named in one line."""

import os.path as osp

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
    try:
        cfg = Config.fromfile(args.config)
    except (FileNotFoundError, ConfigParsingError) as error:
        raise UserError(f"Config '{args.config}' cannot be read: {error}.") from error
    except SyntaxError as error:
        raise UserError(f"Config '{args.config}' has a syntax error: {error}.") from error
    except ModuleNotFoundError:
        raise
    except (ImportError, KeyError, OSError) as error:  # custom_imports; keys of two bases that clash; the file type
        raise UserError(f"Config '{args.config}' cannot be used: {str(error.args[0]).splitlines()[0]}.") from error
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except (KeyError, TypeError) as error:
        raise UserError(f'--cfg-options do not fit the config: {error.args[0]}') from error
    cfg.setdefault('default_scope', 'mmseg')
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    return cfg


def require_keys(cfg, *keys):
    """Raise :class:`UserError` if the config lacks one of the keys."""
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise UserError(f"Config '{cfg.filename}' does not set {', '.join(missing)}.")
