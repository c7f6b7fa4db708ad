"""A training step of the paper's DeepLabv3-R50 on Cityscapes on a GPU, with each loss.

One network and one batch of synthetic images on the device are shared; only the losses of the final head change, step
by step, so that overheads are differences between consecutive steps. A step is MMEngine's ``train_step``, including the
optimizer but not data loading.
"""

import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cpg import BoundaryMaskFromLabel, BoundaryTargetHook

from .common import NOT_MEASURED, against, summary, timed
from .synthetic import street_labels

CONFIGS = Path(__file__).parents[1] / 'configs' / 'cpg'
CROP = (1024, 2048)
NUM_CLASSES = 19
# For a smoke test: the same network, narrow and shallow.
QUICK_CROP = (32, 64)
QUICK_MODEL = dict(
    backbone=dict(depth=18, base_channels=4, stem_channels=4),
    decode_head=dict(in_channels=32, channels=8, dilations=(1, 2)),
    auxiliary_head=dict(in_channels=16, channels=8),
)
NAMES = {'baseline': 'BCE', 'cpg3': 'BCE + CPG3', 'cpg5': 'BCE + CPG5', 'cpg7': 'BCE + CPG7', 'bce_rmi': 'BCE + RMI'}
# Implementation, and whether boundaries are precomputed, which the dense one does not support.
WAYS = [('triton', False), ('triton', True), ('sparse', False), ('sparse', True), ('dense', False)]
BASELINE = ('baseline', None, False)
CASES = [BASELINE, *((f'cpg{k}', *way) for k in (3, 5, 7) for way in WAYS), ('bce_rmi', None, False)]
# Overhead in percent of the step: the paper's (Table 4, on an A100), and the upper limit for Triton.
PAPER_PERCENT = {'cpg3': 2.2, 'cpg5': 4.0, 'cpg7': 5.2, 'bce_rmi': 3.5}
BARS_PERCENT = {'cpg3': 0.7, 'cpg5': 1.0, 'cpg7': 1.5}


def load(name):
    return Config.fromfile(CONFIGS / f'deeplabv3_r50_cityscapes_{name}.py')


def losses_of(name, device, implementation=None):
    losses = load(name).model.decode_head.loss_decode
    if implementation:
        losses[1].implementation = implementation
    return nn.ModuleList(map(MODELS.build, losses if isinstance(losses, list) else [losses])).to(device)


def samples_of(label, loss_decode, precomputed):
    """Data samples of a (B, H, W) label, optionally with precomputed boundaries."""
    samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None].cpu())) for each in label]
    if precomputed:
        transform = BoundaryMaskFromLabel(loss_decode[1].ksize, ignore_policy=loss_decode[1].ignore_policy)
        samples = [transform(dict(data_samples=each))['data_samples'] for each in samples]
    return [each.to(label.device) for each in samples]


class Trainer:
    """A network, its optimizer and a batch, for steps with the losses of any case."""

    def __init__(self, device, crop, batch_size, amp, options):
        cfg = load('baseline')
        cfg.merge_from_dict(dict(model=dict(options, pretrained=None, data_preprocessor=dict(size=crop))))
        torch.backends.cudnn.benchmark = cfg.env_cfg.cudnn_benchmark
        self.model = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(device).train()
        if amp:
            cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        logger = MMLogger.get_instance('benchmark_training_step', log_level='ERROR')
        self.runner = SimpleNamespace(model=self.model, logger=logger)
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (batch_size, 3, *crop), generator=generator, dtype=torch.uint8).to(device)
        self.label = street_labels(batch_size, NUM_CLASSES, *crop).to(device)
        self.hook = BoundaryTargetHook()

    def prepare(self, name, implementation, precomputed):
        """A function that runs a step with these losses."""
        loss_decode = losses_of(name, self.images.device, implementation)
        batch = dict(inputs=list(self.images), data_samples=samples_of(self.label, loss_decode, precomputed))

        def step():
            self.model.decode_head.loss_decode = loss_decode
            self.hook.before_train(self.runner) if precomputed else self.hook.after_train(self.runner)
            self.model.train_step(batch, self.optim_wrapper)

        return step


def host_waits(step):
    """Number of host synchronizations in a step."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchronizing CUDA operation' in str(each.message) for each in caught)


def examine(step, is_cuda):
    """Warm up and measure (peak memory in GB, host synchronizations), None on CPU."""
    step()
    if not is_cuda:
        return {'peak_memory_gb': None, 'host_synchronizations': None}
    torch.cuda.reset_peak_memory_stats()
    waits = host_waits(step)
    return {'peak_memory_gb': round(1e-9 * torch.cuda.max_memory_allocated(), 2), 'host_synchronizations': waits}


def measure_cases(trainer, rounds, limit_s):
    """Measurements of all cases, or why there is none. Ends after all rounds or, after four, at the time limit."""
    is_cuda = trainer.images.is_cuda
    steps, rows = {}, {}
    for case in CASES:
        try:
            step = trainer.prepare(*case)
            rows[case] = examine(step, is_cuda)
            steps[case] = step
        except (RuntimeError, ValueError) as error:  # no Triton, or not enough memory for the dense implementation
            if case == BASELINE:
                raise
            rows[case] = {'fails': str(error).splitlines()[0]}
            print(case, rows[case]['fails'], flush=True)
    times = {case: [] for case in steps}
    deadline = time.monotonic() + limit_s
    while len(times[BASELINE]) < rounds and (len(times[BASELINE]) < 4 or time.monotonic() < deadline):
        for case, step in steps.items():
            times[case].append(timed(step, trainer.images)[1])
    for case, of_case in times.items():
        rows[case]['step'] = summary(of_case)
        overhead = [100 * (own / base - 1) for own, base in zip(of_case, times[BASELINE], strict=True)]
        rows[case]['overhead'] = summary(overhead, 'percent')
    return rows


def measure_all(device, batch_size, rounds, limit_s, quick=False):
    """Rows for all cases, with AMP off and, on CUDA, on."""
    rows = []
    for amp in (False, True) if device == 'cuda' else (False,):  # AmpOptimWrapper does not support CPUs
        crop, options = (QUICK_CROP, QUICK_MODEL) if quick else (CROP, {})
        measured = measure_cases(Trainer(device, crop, batch_size, amp, options), rounds, limit_s)
        for case in CASES:
            name, implementation, precomputed = case
            row = {
                'amp': amp,
                'losses': NAMES[name],
                'implementation': implementation,
                'precomputed': precomputed,
                'paper_percent': PAPER_PERCENT.get(name),
                'bar_percent': BARS_PERCENT.get(name) if implementation == 'triton' else None,
                'measured': measured[case],
            }
            rows.append(row)
            print(cells(row), flush=True)
    return rows


def cells(row):
    """A row of the table."""
    names = [row['losses']]
    if row['implementation']:
        names += [row['implementation'], 'precomputed' if row['precomputed'] else 'on the fly']
    measured, paper = row['measured'], row['paper_percent']
    overhead = measured.get('overhead', {}).get('percent')
    values = [', '.join(names), 'on' if row['amp'] else 'off']
    if 'fails' in measured:
        values += ['fails'] * 2
    else:
        values.append('{ms:.1f} ({p20_ms:.1f} to {p80_ms:.1f})'.format(**measured['step']))
        values.append('{percent:+.2f} ({p20_percent:+.2f} to {p80_percent:+.2f})'.format(**measured['overhead']))
    values += ['' if paper is None else f'{paper:+}', against(overhead, row['bar_percent'])]
    for key in ('host_synchronizations', 'peak_memory_gb'):
        value = measured.get(key)
        values.append(NOT_MEASURED if value is None else str(value))
    return f'| {" | ".join(values)} |'


def markdown(rows):
    """The table of the documentation."""
    head = (
        'losses', 'AMP', 'step, ms (20 to 80 %)', 'overhead, % of the step', "the paper's, %", 'bar, %',
        'host synchronizations', 'peak memory, GB',
    )  # fmt: skip
    return '\n'.join(['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|', *map(cells, rows)])
