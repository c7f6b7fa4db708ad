"""Setup of the tools before they import the stack; import it first.

It puts this repository first on ``sys.path``, so that the tools work from any folder, installed or not, silences
warnings of the stack's own imports, and reports a missing dependency in one line.
"""

import contextlib
import importlib
import io
import multiprocessing
import sys
import warnings
from pathlib import Path
from types import TracebackType

# In the order in which the stack imports them, with the package that provides them. mmcv-lite lacks mmcv.ops.
DEPENDENCIES = {
    'torch': 'torch',
    'cv2': 'opencv-python',
    'mmengine': 'mmengine or onedl-mmengine',
    'mmcv': 'mmcv or onedl-mmcv',
    'mmcv.ops': 'mmcv or onedl-mmcv, built with its ops (not mmcv-lite)',
    'ftfy': 'ftfy',
    'regex': 'regex',
    'mmseg': 'mmsegmentation or onedl-mmsegmentation',
    'mmseg.datasets': 'mmsegmentation or onedl-mmsegmentation',
}
VERSIONS = 'requirements/stack.txt and stack-onedl.txt list the versions that work together.'
NOISE = (
    r'pkg_resources is deprecated as an API',  # mmengine
    r'``build_loss`` would be deprecated soon',  # mmseg's own heads
    r'The draw is False',  # SegVisualizationHook, whenever nothing is to be drawn
    r'`broadcast_buffers` is deprecated',  # mmengine, in distributed runs
    r'`reduce_zero_label` will be deprecated',  # mmseg's own ADE20K and COCO-Stuff configs
)


def check_dependencies() -> None:
    """Import the dependencies of the tools.

    Raises:
        SystemExit: A package is missing, cannot be imported, or is incompatible; one line names it.
    """
    for module, package in DEPENDENCIES.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # onedl-mmsegmentation prints missing packages
                importlib.import_module(module)
        except ImportError as error:
            sys.exit(f'Error: {module} cannot be imported ({error}). Install {package}; {VERSIONS}')
        except AssertionError as error:  # mmseg rejects a version of mmcv or mmengine
            sys.exit(f'Error: {error} {VERSIONS}')


def report_interruption(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show Ctrl-C as one line, even while the stack is being imported, and other exceptions as usual.

    A data loader's worker process that loses its main process shows nothing.
    """
    if multiprocessing.parent_process() is not None and issubclass(kind, (ConnectionError, KeyboardInterrupt)):
        return
    if issubclass(kind, KeyboardInterrupt):
        print('Stopped by Ctrl-C.', file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = report_interruption
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for message in NOISE:
    warnings.filterwarnings('ignore', message=message)
check_dependencies()
