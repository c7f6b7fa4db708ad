"""The time of a training step with cross-entropy, with CPG, and with CPG and precomputed boundaries.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --device cuda

On CPU, MMEngine's Runner trains MMSegmentation's Fast-SCNN for Cityscapes (crop 512 x 1024, 19 classes) on synthetic
1024 x 2048 images, which worker processes load and augment with the stock pipeline. The losses take turns of several
steps within one run. A step lasts from one batch to the next, including the wait for data and the forward of CPGLoss.
Times are wall times in ms: median and 20 and 80 % percentiles.

On CUDA, the paper's DeepLabv3-R50 is trained (crop 1024 x 2048), with AMP off and on, every implementation of CPG, and
RMI; overheads are medians of the differences from the step with cross-entropy alone in the same round.
"""

import tempfile
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.utils import register_all_modules

from mmseg_cpg import CPGLoss, precompute_boundaries

from .common import environment, make_parser, result_path, summary, write_result
from .scene import write_scene
from .training_step_on_gpu import markdown as markdown_on_gpu
from .training_step_on_gpu import measure_all as measure_on_gpu

CONFIG = 'mmseg::fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py'
# ksize of CPGLoss, if any, and whether to precompute.
CASES = [(None, False), (3, False), (3, True), (7, False), (7, True)]


class ForwardTimes(Hook):
    """Time in ms of the forward of the CPG losses in each step."""

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
    """A synthetic scene under several names, in the layout of Cityscapes."""
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
    """Times of the measured steps: {part: [ms]}."""
    runner = make_runner(folder, ksize, precompute, args.warm_up + args.steps, args)
    forward = ForwardTimes()
    if ksize is not None:
        runner.register_hook(forward)
    runner.train()
    times = {
        part: [1e3 * value for value in runner.message_hub.get_scalar(f'train/{scalar}').data[0]]
        for part, scalar in (('step', 'time'), ('data', 'data_time'))
    }
    if forward in runner.hooks:
        times['cpg_forward'] = forward.times
    return {part: values[args.warm_up :] for part, values in times.items()}


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
            }
            for ksize, precompute in CASES
        ]


def markdown(result):
    """The table of the documentation."""
    if 'on_gpu' in result:
        return markdown_on_gpu(result['on_gpu'])
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
    parser = make_parser(__doc__)
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--threads', type=int, default=1, help="the training process's threads on CPU (default: 1)")
    parser.add_argument('--workers', type=int, default=1, help='on CPU: processes that load data (default: 1)')
    parser.add_argument('--batch-size', type=int, help='images per step (default: 2, on CUDA 3 as in the config)')
    parser.add_argument('--warm-up', type=int, default=2, help='on CPU: steps before counting, each round (default: 2)')
    parser.add_argument('--steps', type=int, default=6, help='on CPU: counted steps of each round (default: 6)')
    parser.add_argument('--rounds', type=int, help='rounds over all cases (default: 3, on CUDA 25)')
    parser.add_argument(
        '--limit-s', type=float, default=180.0, help='on CUDA: no round begins later, with AMP off or on (default: 180)'
    )
    parser.add_argument(
        '--quick', action='store_true', help='the cases of CUDA, tiny and on any device, to see that it works'
    )
    args = parser.parse_args()
    on_gpu = args.device != 'cpu' or args.quick
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    args.batch_size = args.batch_size or (3 if on_gpu else 2)
    result = {'environment': environment(args.device), 'batch_size': args.batch_size}
    if on_gpu:
        result['on_gpu'] = measure_on_gpu(args.device, args.batch_size, args.rounds or 25, args.limit_s, args.quick)
    else:
        args.rounds = args.rounds or 3
        result.update(config=CONFIG, workers=args.workers, steps=measure(args))
    write_result(result, args.out or result_path('training_step', args.device), markdown(result))


if __name__ == '__main__':
    main()
