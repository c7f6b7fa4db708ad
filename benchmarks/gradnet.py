"""Size and speed of GraDNet, compared with its paper and with MMSegmentation's U-Net.

    python -m benchmarks.gradnet [--device cuda]

One image, in evaluation mode, without gradients, from the normalized tensor to logits at the network's resolution
(``model(image)``) and to the label map at the image size (``model.predict(image)``): 500 x 500 as in the paper, 512 x
512 for U-Net, whose sides must be multiples of 16. On CPU, times are processor times of one core, which other load
hardly affects; on CUDA, those of the device. In ms: median and 20 and 80 % percentiles. Megabytes (1e6 bytes) are those
of weights and buffers in float32.
"""

import time
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_cpg.ops import gradient_layer

from .common import environment, make_parser, result_path, summary, timed, write_result

ROOT = Path(__file__).parents[1]
CROP_PX = 500
UNET_CROP_PX = 512
# Tables 2 and 3 of the paper, by classes: frames per second of GraDNet and U-Net on an RTX 2070; "Model (Mb)".
PAPER_FPS = {150: (20.1, 16.4), 19: (28.6, 18.6)}
PAPER_MB = (22.1, 28.7)


def measure_call(function, image, repeats):
    """Median and percentiles of a call's time in ms, after two calls that are excluded."""
    times_ms = [timed(function, image, time.process_time)[1] for _ in range(2 + repeats)]
    return summary(times_ms[2:])


def build(model, device):
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(model))
    model.init_weights()
    return model.to(device).eval()


def measure(network, model, crop_px, device, repeats):
    image = torch.randn(1, 3, crop_px, crop_px, generator=torch.Generator().manual_seed(0)).to(device)
    labels = model.predict(image)[0].pred_sem_seg.data
    if labels.shape != (1, crop_px, crop_px):
        raise RuntimeError(f'{network} gave a label map of {tuple(labels.shape)}')
    return {
        'network': network,
        'classes': model.num_classes,
        'crop_px': crop_px,
        'parameters': sum(parameter.numel() for parameter in model.parameters()),
        'size_mb': sum(value.numel() * 4 for value in model.state_dict().values()) / 1e6,
        'logits': measure_call(lambda: model(image), image, repeats),
        'label_map': measure_call(lambda: model.predict(image), image, repeats),
    }


@torch.no_grad()
def compare(device, repeats):
    rows = []
    for dataset in ('ade20k', 'cityscapes'):
        model = build(Config.fromfile(ROOT / f'configs/gradnet/gradnet_4xb4-160k_{dataset}-500x500.py').model, device)
        rows.append(measure('GraDNet', model, CROP_PX, device, repeats))
        features = model.backbone.conv1(torch.randn(1, 3, CROP_PX, CROP_PX, device=device))
        rows[-1]['gradient_layer'] = measure_call(partial(gradient_layer, features), features, repeats)
        unet = Config.fromstring("_base_ = 'mmseg::_base_/models/fcn_unet_s5-d16.py'", '.py').model
        unet.update(auxiliary_head=None, test_cfg=dict(mode='whole'))
        unet.decode_head.num_classes = model.num_classes
        rows.append(measure('U-Net', build(unet, device), UNET_CROP_PX, device, max(repeats // 4, 2)))
    return rows


def markdown(result):
    """The table of configs/gradnet/README.md."""
    lines = [
        '| network | classes | image | parameters | MB | logits / s | label maps / s | paper: Mb | paper: fps |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for row in result['networks']:
        theirs = int(row['network'] == 'U-Net')
        speeds = ' | '.join(f'{1000 / row[name]["ms"]:.2g}' for name in ('logits', 'label_map'))
        lines.append(
            f'| {row["network"]} | {row["classes"]} | {row["crop_px"]}×{row["crop_px"]} | {row["parameters"]:,} '
            f'| {row["size_mb"]:.2f} | {speeds} | {PAPER_MB[theirs]} | {PAPER_FPS[row["classes"]][theirs]} |'
        )
    return '\n'.join(lines)


def main():
    parser = make_parser(__doc__)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--repeats', type=int, default=20, help='counted runs (default: 20; U-Net: a quarter)')
    args = parser.parse_args()
    init_default_scope('mmseg')
    torch.set_num_threads(1)
    result = {'environment': environment(args.device), 'networks': compare(args.device, args.repeats)}
    write_result(result, args.out or result_path('gradnet', args.device), markdown(result))


if __name__ == '__main__':
    main()
