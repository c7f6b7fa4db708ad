"""What a training step takes with cross-entropy, with CPG, and with CPG whose boundaries the workers precompute.

    python benchmarks/benchmark_training_step.py      writes benchmark_training_step.json beside this file

MMEngine's Runner trains MMSegmentation's Fast-SCNN for Cityscapes (crop 512 x 1024, 19 classes) on 1024 x 2048 made-up
images, which worker processes load and augment with the stock pipeline. The losses take turns, some steps each, within
one run. A step is all that happens from one batch to the next; the wait for data and, on CPU, the forward of CPGLoss
are parts of it. Times are wall times in ms: median and 20 and 80 % percentiles. Host synchronisations are what
torch.profiler sees the host wait for the device, per step; on a CPU there are none.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from benchmark_boundary_transform import summary, write_scene
from measuring import environment
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.utils import register_all_modules

from mmseg_cpg import CPGLoss
from mmseg_cpg.utils.precompute import precompute_boundaries

CONFIG = 'mmseg::fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py'
# ksize of CPGLoss, if any, and whether to precompute.
CASES = [(None, False), (3, False), (3, True), (7, False), (7, True)]
WAITS = ('cudaStreamSynchronize', 'cudaDeviceSynchronize', 'cudaEventSynchronize', 'cudaMemcpy')
PROFILED_STEPS = 3


class ForwardTimes(Hook):
    """Time in ms that the CPG losses' forward takes in each step."""

    def before_train(self, runner):
        self.times = []
        for loss in [module for module in runner.model.modules() if isinstance(module, CPGLoss)]:
            loss.register_forward_pre_hook(self._begin)
            loss.register_forward_hook(self._end)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.times.append(0.0)

    def _begin(self, *_):
        self._start = time.perf_counter()

    def _end(self, *_):
        self.times[-1] += 1e3 * (time.perf_counter() - self._start)


def write_dataset(folder, images):
    """One made-up scene under several names, in the layout of Cityscapes."""
    paths, _ = write_scene(folder)
    for part, source, suffix in zip(
        ('leftImg8bit', 'gtFine'), paths, ('leftImg8bit', 'gtFine_labelTrainIds'), strict=True
    ):
        city = folder / part / 'train' / 'city'
        city.mkdir(parents=True)
        for index in range(images):
            (city / f'city_{index:06}_000000_{suffix}.png').hardlink_to(source)


def make_runner(folder, ksize, precompute, steps, args):
    cfg = Config.fromstring(f"_base_ = '{CONFIG}'", '.py')
    cfg.update(work_dir=str(folder / 'work_dir'), log_level='ERROR', randomness=dict(seed=0))
    losses = [dict(type='CrossEntropyLoss')]
    if ksize is not None:
        losses.append(dict(type='CPGLoss', ksize=ksize))
    cfg.model.decode_head.loss_decode = losses
    cfg.train_dataloader.dataset.data_root = str(folder)
    cfg.train_dataloader.update(batch_size=args.batch_size, num_workers=args.workers)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps)
    for stage in ('val', 'test'):
        cfg.update({f'{stage}_cfg': None, f'{stage}_dataloader': None, f'{stage}_evaluator': None})
    cfg.default_hooks = dict(logger=None, checkpoint=None)
    if precompute:
        precompute_boundaries(cfg)
    cfg.experiment_name = f'{ksize}_{precompute}_{time.time_ns()}'
    return Runner.from_cfg(cfg)


def train(folder, ksize, precompute, args):
    """Times of the counted steps: {part: [ms]}."""
    runner = make_runner(folder, ksize, precompute, args.warm_up + args.steps, args)
    forward = ForwardTimes()
    if args.device == 'cpu' and ksize is not None:
        runner.register_hook(forward)
    runner.train()
    times = {
        part: [1e3 * value for value in runner.message_hub.get_scalar(f'train/{scalar}').data[0]]
        for part, scalar in (('step', 'time'), ('data', 'data_time'))
    }
    if forward in runner.hooks:
        times['cpg_forward'] = forward.times
    return {part: values[args.warm_up :] for part, values in times.items()}


def host_waits(folder, ksize, precompute, args):
    """Times that the host waits for the device, per step, or None on a CPU."""
    if args.device == 'cpu':
        return None
    counts = []
    for steps in (1, 1 + PROFILED_STEPS):  # the difference leaves out what happens once
        runner = make_runner(folder, ksize, precompute, steps, args)
        with torch.profiler.profile() as profile:
            runner.train()
        counts.append(sum(event.count for event in profile.key_averages() if event.key in WAITS))
    return (counts[1] - counts[0]) / PROFILED_STEPS


def measure(args):
    times = {case: {} for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_dataset(folder, images=64)
        for _ in range(args.rounds):
            for case in CASES:
                for part, values in train(folder, *case, args).items():
                    times[case].setdefault(part, []).extend(values)
        return [
            {
                'ksize': ksize,
                'precomputed': precompute,
                **{part: summary(values) for part, values in times[ksize, precompute].items()},
                'host_synchronisations': host_waits(folder, ksize, precompute, args),
            }
            for ksize, precompute in CASES
        ]


def markdown(result):
    """The table of the README."""
    lines = [
        '| losses | step, ms (20 to 80 %) | of which wait for data, ms | of which forward of CPG, ms |',
        '|---|---|---|---|',
    ]
    for row in result['steps']:
        source = 'precomputed' if row['precomputed'] else 'on the fly'
        name = 'CE' if row['ksize'] is None else f'CE + CPG{row["ksize"]}, {source}'
        step = '{ms:.0f} ({p20_ms:.0f} to {p80_ms:.0f})'.format(**row['step'])
        forward = f'{row["cpg_forward"]["ms"]:.0f}' if 'cpg_forward' in row else ''
        lines.append(f'| {name} | {step} | {row["data"]["ms"]:.0f} | {forward} |')
    return '\n'.join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, default=1, help="the training process's threads on CPU (default: 1)")
    parser.add_argument('--workers', type=int, default=1, help='processes that load data (default: 1)')
    parser.add_argument('--batch-size', type=int, default=2, help='images per step (default: 2)')
    parser.add_argument('--warm-up', type=int, default=2, help='steps before counting, in each round (default: 2)')
    parser.add_argument('--steps', type=int, default=6, help='counted steps of each round (default: 6)')
    parser.add_argument('--rounds', type=int, default=3, help='rounds over all cases (default: 3)')
    parser.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    args = parser.parse_args()
    if args.device != ('cuda' if torch.cuda.is_available() else 'cpu'):
        parser.error(f'--device {args.device}: MMEngine trains on the GPU if and only if there is one')
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    result = {
        'environment': environment(args.device),
        'config': CONFIG,
        'batch_size': args.batch_size,
        'workers': args.workers,
        'steps': measure(args),
    }
    args.out.write_text(json.dumps(result, indent=1) + '\n')
    print(markdown(result), f'wrote {args.out}', sep='\n\n')


if __name__ == '__main__':
    main()
