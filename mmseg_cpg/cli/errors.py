"""Errors that a user can mend are shown as one line; a bug keeps its traceback."""

import os
import re
import sys
import time
import traceback
from contextlib import contextmanager
from urllib.error import URLError

SPEAKER_HEAD_START_S = 5


class UserError(Exception):
    """Something that the user can mend. The message is one line that says what is wrong and what to do."""


@contextmanager
def one_line_errors():
    """Leave with one line and exit status 1 where the user, and not the code, is at fault.

    Raises:
        SystemExit: For a :class:`UserError`, a missing package, weights that cannot be downloaded, and a part of the
            config that cannot be built. Every other exception passes through.
    """
    try:
        yield
    except UserError as error:
        _leave(str(error))
    except ModuleNotFoundError as error:
        hint = "install 'setuptools<81'" if error.name == 'pkg_resources' else 'install it, or check the name'
        _leave(f'A Python package is missing ({error}): {hint}.')
    except URLError as error:
        _leave(
            f'Pretrained weights could not be downloaded ({error}). Check the network, or switch them off, '
            'for most models with --cfg-options model.pretrained=None or model.backbone.init_cfg=None.'
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        message = _config_fault(error)
        if message is None:
            raise
        _leave(message)


def _config_fault(error):
    """Say in one line what is wrong with the config if the error arose from building a part of it, else None."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [frame.f_globals.get('__name__', '') for frame in frames]
    text = str(error.args[0] if error.args else error)
    unknown = re.match(r'(\S+) is not in the (\S+) registry|Failed to get (\S+)', text)
    if modules[-1].startswith('mmengine.registry.') and unknown:
        name, registry, dotted = unknown.groups()
        return (
            f"The config names '{name or dotted}', which is not {f'in the {registry} registry' if name else 'found'}: "
            'check the spelling, or name the module that defines it in custom_imports.'
        )
    if 'mmengine.registry.build_functions' in modules and _refuses_arguments(error, text, frames[-1], modules[-1]):
        return f'The config cannot be built: {text.splitlines()[0]}'
    return None


def _refuses_arguments(error, text, frame, module):
    """Whether the error, raised in a frame, means that a class being built does not take the config's arguments."""
    if module.startswith('mmengine.registry.') or module.startswith('mmseg_cpg.'):
        return isinstance(error, (TypeError, ValueError))
    # A class of the stack that hands its arguments on to its base: super().__init__(**kwargs).
    signature = re.match(r'(\w+)\.__init__\(\) (got an unexpected keyword|missing \d+ required)', text)
    bases = type(frame.f_locals.get('self')).__mro__
    return signature is not None and signature[1] in {base.__name__ for base in bases}


def _leave(message):
    # Of a node's processes only the first speaks. The others give it time to, because torchrun ends all of them as
    # soon as one has left, and speak only if they are still there, which means that the fault was theirs alone.
    if os.environ.get('LOCAL_RANK', '0') != '0':
        time.sleep(SPEAKER_HEAD_START_S)
    sys.exit(f'Error: {message}')
