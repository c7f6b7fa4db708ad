"""What a tool does before it imports the stack; import it first.

It puts this repository first on ``sys.path``, so that the tools work from any folder, installed or not, silences what
the stack's own imports print on every start, and names a dependency that is missing in one line.
"""

import contextlib
import importlib
import io
import multiprocessing
import sys
import warnings
from pathlib import Path
from types import TracebackType

# In the order in which the stack imports them, with what brings them. mmcv.ops is what mmcv-lite lacks.
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
    r'The draw is False',  # SegVisualizationHook, whenever no pictures are asked for
    r'`broadcast_buffers` is deprecated',  # mmengine, in distributed runs
    r'`reduce_zero_label` will be deprecated',  # mmseg's own ADE20K and COCO-Stuff configs
)


def check_dependencies() -> None:
    """Import what the tools need.

    Raises:
        SystemExit: If a package is missing, cannot be loaded, or does not fit the others; one line says which.
    """
    for module, package in DEPENDENCIES.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # onedl-mmsegmentation prints what it lacks
                importlib.import_module(module)
        except ImportError as error:
            sys.exit(f'Error: {module} cannot be imported ({error}). It comes with {package}; {VERSIONS}')
        except AssertionError as error:  # how mmseg refuses a version of mmcv or mmengine
            sys.exit(f'Error: {error} {VERSIONS}')


def report_interruption(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show Ctrl-C as one line, also while the stack is imported, which takes seconds; other exceptions as usual.

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
