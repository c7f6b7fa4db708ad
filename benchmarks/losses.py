"""Time and peak memory of every loss of this package and of MMSegmentation's own, on the same inputs.

    python -m benchmarks.losses            also draws docs/assets/losses.png
    python -m benchmarks.losses --quick    small inputs, to check that it works; writes nothing

Forward and backward as a decode head calls them, all losses in turn within one run on the same logits. Each is checked
first: value and gradient must be finite, and a small step against the gradient of a loss of this package must lower it.
Times are in ms: median and 20th and 80th percentiles. Ratios to cross-entropy are medians of the ratios of single
rounds, with their 95 % bootstrap intervals. Memory is the peak of torch's allocator in addition to the logits, in units
of the logits' bytes, the gradient (1.0) included. It does not see scipy's memory, which HuasdorffDisstanceLoss uses. A
loss that fails on an input, or exceeds the time limit of a run, is listed as such.
"""

import signal
import tempfile
import warnings
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from types import SimpleNamespace

import mmcv
import mmseg
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mmseg.registry import MODELS
from mmseg.structures import OHEMPixelSampler
from mmseg.utils import register_all_modules

from mmseg_cpg.models.edge_network import EdgeNetwork, save_edge_network
from mmseg_cpg.models.losses.base import SegmentationLoss

from .common import environment, make_parser, measure, result_path, run, setup, size, write_result

CASES = [(1, 19, 512, 1024), (1, 150, 512, 512), (1, 171, 512, 512)]
QUICK_CASES = [(1, num_classes, 96, 128) for _, num_classes, _, _ in CASES]
BASELINE = 'CrossEntropyLoss'
CROSS_ENTROPY = dict(type='CrossEntropyLoss', avg_non_ignore=True)
TOO_SLOW = 'more than'
# Of bars, by whether the loss is one of this package.
COLORS = {True: 'C0', False: '0.7'}


class OHEM(torch.nn.Module):
    """Cross-entropy with the weights of MMSegmentation's pixel sampler, which has the arguments of its configs."""

    def __init__(self):
        super().__init__()
        self.cross_entropy = MODELS.build(CROSS_ENTROPY)

    def forward(self, pred, target, ignore_index):
        sampler = OHEMPixelSampler(SimpleNamespace(ignore_index=ignore_index), thresh=0.7, min_kept=100000)
        weight = sampler.sample(pred, target[:, None])
        return self.cross_entropy(pred, target, weight=weight, ignore_index=ignore_index)


class FocalLossOfOneHot(torch.nn.Module):
    """Focal loss of a one-hot label, all 0 at void pixels: on CPU it takes no other."""

    def __init__(self):
        super().__init__()
        self.focal = MODELS.build(dict(type='FocalLoss'))

    def forward(self, pred, target, ignore_index):
        void = target == ignore_index
        one_hot = F.one_hot(target.masked_fill(void, 0), pred.shape[1]) * ~void[..., None]
        return self.focal(pred, one_hot.movedim(3, 1).contiguous(), ignore_index=ignore_index)


# An untrained edge network costs what a trained one does; measure_case writes one for each number of classes.
FOLDER = tempfile.TemporaryDirectory()  # gone when the script ends
EDGE_NETWORK = str(Path(FOLDER.name, 'edge_network.pth'))

# Configs or modules by the name in the table. Losses of this package that are not among them are added, see `losses`.
LOSSES = {
    BASELINE: CROSS_ENTROPY,
    'CrossEntropyLoss, sigmoid': dict(CROSS_ENTROPY, use_sigmoid=True),
    'CrossEntropyLoss, OHEM': OHEM,
    'DiceLoss': dict(type='DiceLoss', use_sigmoid=False),
    'FocalLoss': dict(type='FocalLoss'),
    'FocalLoss, one-hot label': FocalLossOfOneHot,
    'HuasdorffDisstanceLoss': dict(type='HuasdorffDisstanceLoss'),
    'LovaszLoss': dict(type='LovaszLoss', reduction='none'),
    'TverskyLoss': dict(type='TverskyLoss'),
    **{f'CPGLoss, ksize {ksize}': dict(type='CPGLoss', ksize=ksize) for ksize in (3, 5, 7)},
    **{
        f'CrossEntropyCPGLoss, ksize {ksize}': dict(
            type='CrossEntropyCPGLoss', cross_entropy=CROSS_ENTROPY, cpg=dict(type='CPGLoss', ksize=ksize)
        )
        for ksize in (3, 5, 7)
    },
    'SEMEDALoss': dict(type='SEMEDALoss', checkpoint=EDGE_NETWORK),
}


def losses():
    """LOSSES, and with their defaults the losses of this package that are not among them."""
    types = {config['type'] for config in LOSSES.values() if isinstance(config, dict)}
    registered = {
        name
        for name, module in MODELS.module_dict.items()
        if isinstance(module, type)
        and issubclass(module, SegmentationLoss)
        and module.__module__.startswith('mmseg_cpg.')
    }
    return {**LOSSES, **{name: dict(type=name) for name in sorted(registered - types)}}


@contextmanager
def limited(limit_s):
    """Raise TimeoutError in what takes longer (in the main thread, between two lines of Python)."""

    def stop(*_):
        raise TimeoutError(f'{TOO_SLOW} {limit_s:g} s')

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def check(loss, logits, label, here, limit_s):
    """Raise ValueError unless value and gradient are finite and, of a loss of this package, fit together.

    Raises TimeoutError if one forward and backward takes longer than the limit.

    (HuasdorffDisstanceLoss and others take what depends on the prediction for a constant, so that theirs need not.)

    Returns:
        Whether void pixels get no gradient.
    """
    with limited(limit_s):
        run(loss, logits)
    gradient = logits.grad
    value = loss(logits.detach())
    if value.shape != () or not value.isfinite() or not gradient.isfinite().all():
        raise ValueError('value or gradient is not finite')
    step = 1e-3 * logits.detach().norm() / gradient.norm()
    if here and not loss(logits.detach() - step * gradient) < value:
        raise ValueError('a step against the gradient does not lower the value')
    return not gradient.movedim(1, 3)[label == 255].any().item()


def measure_case(shape, device, repeats, limit_s):
    """A row for each loss, by its name: its measurements, or why it has none."""
    logits, label = setup(shape, device)
    network = EdgeNetwork(shape[1])
    network.init_weights()
    save_edge_network(network, EDGE_NETWORK)
    working, rows = {}, {}
    for name, config in losses().items():
        here = isinstance(config, dict) and MODELS.get(config['type']).__module__.startswith('mmseg_cpg.')
        rows[name] = {'here': here}
        try:
            module = MODELS.build(config) if isinstance(config, dict) else config()
            working[name] = partial(call, module.to(device), label)
            rows[name]['ignores_void'] = check(working[name], logits, label, here, limit_s)
        except Exception as error:  # whatever a loss fails with, the others are measured
            working.pop(name, None)
            rows[name]['fails'] = (str(error).splitlines() or [type(error).__name__])[0]
            print(f'{size(shape)} {name}: {type(error).__name__}: {rows[name]["fails"]}', flush=True)
    if BASELINE not in working:
        raise SystemExit(f'{BASELINE}, with which all are compared, fails: {rows[BASELINE]["fails"]}')
    measured = measure(working, logits, repeats, BASELINE, limit_s)
    baseline = measured[BASELINE]
    for name, row in measured.items():
        row['over_cross_entropy'] = row.pop('over_baseline')
        rows[name].update(row)
        rows[name]['memory_over_cross_entropy'] = round(row['peak_memory'] / baseline['peak_memory'], 2)
        print('{}, {}: {total_ms} ms, memory {peak_memory} x logits'.format(size(shape), name, **row), flush=True)
    return {'logits': shape, 'losses': rows}


def call(module, label, logits):
    return module(logits, label, ignore_index=255)


def by_time(case):
    """(name, row) of a case from the fastest to the slowest; then those that are too slow, and those that fail."""
    return sorted(
        case['losses'].items(),
        key=lambda item: ('fails' in item[1] and not is_too_slow(item[1]), item[1].get('total_ms', inf)),
    )


def markdown(result):
    """The table of the README, sorted by the time of the first case, and below it what failed."""
    cases = result['cases']
    lines = [
        '| loss | ' + ' | '.join(f'{size(case["logits"])}: ms (÷ cross-entropy), memory' for case in cases) + ' |',
        '|---' * (1 + len(cases)) + '|',
    ]
    for name, first in by_time(cases[0]):
        cells = [cell(case['losses'][name]) for case in cases]
        lines.append(f'| {f"**{name}**" if first["here"] else name} | {" | ".join(cells)} |')
    failures = {
        name: row['fails']
        for case in reversed(cases)
        for name, row in case['losses'].items()
        if 'fails' in row and not is_too_slow(row)
    }
    notes = [f'- {name} fails: {message}' for name, message in failures.items()]
    seen = [name for name, row in cases[0]['losses'].items() if row.get('ignores_void') is False]
    if seen:
        notes.append(f'- {", ".join(seen)} do not ignore void pixels.')
    return '\n'.join([*lines, *(['', *notes] if notes else [])])


def cell(row):
    if 'fails' in row:
        return row['fails'] if is_too_slow(row) else 'fails'
    return '{total_ms:.0f} ({over_cross_entropy:.1f}), {peak_memory:.1f}'.format(**row)


def is_too_slow(row):
    return row.get('fails', '').startswith(TOO_SLOW)


def plot(result):
    """Time and memory over those of cross-entropy as bars, a row of panels for each number of classes."""
    cases = result['cases']
    figure = Figure(figsize=(8, 1.3 + sum(0.6 + 0.19 * len(case['losses']) for case in cases)), dpi=100)
    figure.set_layout_engine('constrained')
    panels = figure.subplots(len(cases), 2, squeeze=False, sharex='col', width_ratios=(3, 2))
    for (time_axes, memory_axes), case in zip(panels, cases, strict=True):
        names, rows = zip(*by_time(case), strict=True)
        limit = 1e3 * result['limit_s'] / case['losses'][BASELINE]['total_ms']
        # Bars of times begin at 1, to the left for what is faster than cross-entropy.
        draw_bars(time_axes, rows, [limit if is_too_slow(row) else row.get('over_cross_entropy') for row in rows], 1)
        draw_bars(memory_axes, rows, [row.get('memory_over_cross_entropy') for row in rows], 0)
        time_axes.set_yticks(range(len(names)), names, fontsize=8)
        time_axes.set_title(f'{case["logits"][1]} classes ({size(case["logits"])})', loc='left', fontweight='bold')
        memory_axes.set_yticks([])
        time_axes.set_xscale('log')
        time_axes.xaxis.set_major_formatter('{x:g}')
    panels[-1, 0].set_xlabel('relative time (left of 1: faster)')
    panels[-1, 1].set_xlabel('relative peak memory')
    where = '{device}, threads used: {threads}'.format(**result['environment'])
    figure.suptitle(f'Forward and backward of each loss relative to cross-entropy\n{where}', fontsize=11)
    patches = [Patch(color=color) for color in COLORS.values()]
    figure.legend(patches, ['losses of mmseg-cpg', 'losses of MMSegmentation'], loc='outside lower center', ncols=2)
    return figure


def draw_bars(axes, rows, values, start):
    """Horizontal bars from the top, each with its value; instead of what is missing, why."""
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        color = COLORS[row['here']]
        if is_too_slow(row):
            text, style = row['fails'] if value else '–', dict(fill=False, hatch='////', edgecolor=color)
        else:
            text, style = 'fails' if 'fails' in row else f'{value:.1f}', dict(color=color)
        bars = axes.barh(place, (value or start) - start, left=start, **style)
        axes.bar_label(bars, [text], padding=2, fontsize=8)
    axes.axvline(1, color='0.2', linewidth=0.8)
    axes.margins(x=0.2, y=0.01)
    axes.invert_yaxis()
    axes.spines[['top', 'right']].set_visible(False)


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--repeats', type=int, default=9, help='counted runs of each loss (default: 9)')
    parser.add_argument(
        '--limit-s',
        type=float,
        default=10.0,
        help='seconds for a run; and for the counted runs of a loss, four of which are made anyway (default: 10)',
    )
    parser.add_argument('--quick', action='store_true', help='small inputs, four runs; writes only where it is told to')
    parser.add_argument('--figure', type=Path, help='default: docs/assets/losses.png')
    args = parser.parse_args()
    if not args.quick:
        args.out = args.out or result_path('losses', args.device)
        args.figure = args.figure or Path(__file__).parents[1] / 'docs' / 'assets' / 'losses.png'
    register_all_modules(init_default_scope=True)
    warnings.filterwarnings('ignore', module='mmseg')
    cases, repeats = (QUICK_CASES, 4) if args.quick else (CASES, args.repeats)
    result = {
        'environment': environment(args.device, mmseg, mmcv),
        'limit_s': args.limit_s,
        'cases': [measure_case(shape, args.device, repeats, args.limit_s) for shape in cases],
    }
    if args.out:
        write_result(result, args.out, markdown(result))
    else:
        print(markdown(result))
    if args.figure:
        plot(result).savefig(args.figure)
        print(f'wrote {args.figure}')
    failing = [
        name for case in result['cases'] for name, row in case['losses'].items() if row['here'] and 'fails' in row
    ]
    if failing:
        raise SystemExit(f'of this package fail: {", ".join(dict.fromkeys(failing))}')


if __name__ == '__main__':
    main()
