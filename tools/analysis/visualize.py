#!/usr/bin/env python
"""Draw predictions of one or more models at the boundaries of an image: errors, probability gradients and profiles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import bootstrap  # noqa: F401, I001  before everything that imports the stack

import argparse
from collections.abc import Iterator, Sequence

import cv2
import mmcv
import numpy as np
from matplotlib.figure import Figure
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model
from mmseg.registry import DATASETS

from mmseg_cpg.cli.checkpoint import require_checkpoint
from mmseg_cpg.cli.config import load_config, require_keys
from mmseg_cpg.cli.errors import UserError, building, one_line_errors, user_errors
from mmseg_cpg.cli.running import require_writable
from mmseg_cpg.config_nodes import builds, name_losses
from mmseg_cpg.datasets.checked_pipeline import CheckedPipeline
from mmseg_cpg.datasets.label_values import find_loading_step
from mmseg_cpg.engine.safe_unpickling import allow_training_logs
from mmseg_cpg.ops.cpg.sobel import check_ksize
from mmseg_cpg.ops.cpg.options import IGNORE_POLICIES
from mmseg_cpg.structures import binary_ids, void_in_place_of_class
from mmseg_cpg.visualization import (
    Line,
    Prediction,
    Scene,
    choose_line,
    draw_boundaries,
    draw_changes,
    draw_comparison,
    draw_errors,
    draw_gradients,
    draw_profile,
    head_ignore_index,
    names_and_colors,
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('image', help='image file')
    parser.add_argument('--config', required=True, help='config of the model')
    parser.add_argument('--checkpoint', required=True, help='checkpoint of the model')
    parser.add_argument(
        '--versus',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another model to compare with; can be repeated',
    )
    parser.add_argument('--names', nargs='+', metavar='NAME', help='names of the models (default: their losses)')
    parser.add_argument('--label', help="label map of the image, loaded like the labels of the config's dataset")
    parser.add_argument(
        '--class', dest='class_name', metavar='NAME', help='class to plot (default: the one with most boundary pixels)'
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument('--row', type=int, metavar='Y', help='row of the profile (default: one that crosses edges)')
    where.add_argument('--column', type=int, metavar='X', help='column of the profile')
    parser.add_argument(
        '--span', type=int, nargs=2, metavar=('FIRST', 'LAST'), help='pixels of the row or column (default: all)'
    )
    parser.add_argument(
        '--ksize',
        type=int,
        nargs='+',
        default=[3, 5, 7],
        help='kernel sizes; the first one is used for gradients (default: 3 5 7)',
    )
    parser.add_argument(
        '--ignore-policy',
        choices=IGNORE_POLICIES,
        default='exclude',
        help='how void pixels are handled (default: exclude)',
    )
    parser.add_argument('--out', metavar='DIR', help='folder for the figures (default: work_dirs/visualize/IMAGE_NAME)')
    parser.add_argument('--device', default=get_device(), help='device of the models (default: %(default)s)')
    return parser


class Model:
    """A trained model with its config.

    Raises:
        UserError: The config or the checkpoint cannot be used.
    """

    def __init__(self, config: str, checkpoint: str, device: str) -> None:
        self.config = config
        self.cfg = load_config(argparse.Namespace(config=config, cfg_options=None, launcher='none', work_dir=None))
        require_keys(self.cfg, 'model', 'test_pipeline')
        require_checkpoint(checkpoint)
        # MMSegmentation does this itself if the config names the class as a string.
        self.cfg.test_pipeline = [step for step in self.cfg.test_pipeline if not builds(step, 'LoadAnnotations')]
        with building():
            self.model = init_model(self.cfg, checkpoint, device)
        if device == 'cpu':
            self.model = revert_sync_batchnorm(self.model)
        self.classes, self.palette = names_and_colors(self.model.dataset_meta)
        self.ignore_index = head_ignore_index(self.model)

    def predict(self, image: str, name: str) -> Prediction:
        """Predict the classes of an image file."""
        return Prediction.from_sample(name, inference_model(self.model, image))


def name_models(models: list[Model], names: list[str] | None) -> list[str]:
    """Name the models: as in ``names``, else by their losses if these differ, else by their configs."""
    if names is None:
        names = [name_losses(model.cfg.model) for model in models]
        names = names if len(set(names)) == len(models) else [Path(model.config).stem for model in models]
    if len(names) != len(models):
        raise UserError(f'--names needs one name for each of the {len(models)} models, but got {len(names)}.')
    return names


def read_image(path: str) -> np.ndarray:
    """Read an image as RGB, (H, W, 3) uint8."""
    try:
        image = mmcv.imread(path, channel_order='rgb')
    except cv2.error as error:
        raise UserError(f"Image '{path}' cannot be drawn ({str(error).strip()}).") from error
    if image is None:
        raise UserError(f"Image '{path}' cannot be drawn: OpenCV cannot decode it.")
    return image


def read_label(path: str, model: Model, shape: tuple[int, int]) -> np.ndarray:
    """Read a label map like the dataset of a model's config.

    Raises:
        UserError: It cannot be read, or does not fit the image or the model.
    """
    require_keys(model.cfg, 'test_dataloader')
    with building():
        dataset = DATASETS.build({**model.cfg.test_dataloader.dataset, 'lazy_init': True})
    step = find_loading_step(dataset)
    if step is None:
        raise UserError(f"The test pipeline of '{model.config}' has no LoadAnnotations to read labels with.")
    if not Path(path).is_file():
        raise UserError(f"Label '{path}' not found.")
    info = dict(
        seg_map_path=path, label_map=dataset.label_map, reduce_zero_label=dataset.reduce_zero_label, seg_fields=[]
    )
    with user_errors():
        loaded = CheckedPipeline([step])(info)
    assert loaded is not None, 'LoadAnnotations discards nothing'
    label = loaded['gt_seg_map'].astype(int)
    if label.shape != shape:
        raise UserError(f"Label '{path}' has shape {label.shape}, but the image has shape {shape}.")
    wrong = label[(label >= len(model.classes)) & (label != model.ignore_index)]
    if len(wrong):
        raise UserError(f"Label '{path}' has the value {wrong[0]}, but the model has {len(model.classes)} classes.")
    ids = binary_ids(label, model.ignore_index)
    missing = void_in_place_of_class(ids, len(model.classes), model.ignore_index, 'this label does not contain')
    if missing:
        print(f'Warning: {missing}', file=sys.stderr)
    return label


def choose_class(scene: Scene, name: str | None) -> int:
    """The index of the class to draw."""
    if name is None:
        return scene.main_class()
    if name not in scene.classes:
        raise UserError(f"--class '{name}' is not one of the model's classes: {', '.join(scene.classes)}.")
    return scene.classes.index(name)


def choose_pixels(scene: Scene, class_index: int, row: int | None, column: int | None, span: list[int] | None) -> Line:
    """The row or column to draw, as requested or chosen from the label."""
    is_row, index = row is not None, column if row is None else row
    if index is None:
        if span is not None:
            raise UserError('--span needs --row or --column.')
        return choose_line(scene.reference == class_index)
    height, width = scene.reference.shape
    length, across = (width, height) if is_row else (height, width)
    first, last = span or (0, length - 1)
    if not 0 <= index < across:
        raise UserError(f'--{"row" if is_row else "column"} must be in [0, {across - 1}], got {index}.')
    if not 0 <= first < last < length:
        raise UserError(f'--span must be FIRST < LAST in [0, {length - 1}], got {first} {last}.')
    return Line(is_row, index, first, last + 1)


def draw_all(scene: Scene, class_index: int, line: Line, ksizes: list[int]) -> Iterator[tuple[str, Figure]]:
    """Yield name and figure of all figures that the scene supports."""
    yield 'boundaries', draw_boundaries(scene, ksizes, line)
    if scene.label is not None:
        yield 'errors', draw_errors(scene, line)
    yield 'gradients', draw_gradients(scene, class_index, ksizes[0], line)
    yield 'profile', draw_profile(scene, class_index, line)
    yield 'comparison', draw_comparison(scene)
    if scene.label is not None and len(scene.predictions) > 1:
        yield 'changes', draw_changes(scene, line)


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with one_line_errors():
        with user_errors('--ksize: '):
            ksizes = [check_ksize(ksize) for ksize in args.ksize]
        if not Path(args.image).is_file():
            raise UserError(f"Image '{args.image}' not found.")
        allow_training_logs()
        init_default_scope('mmseg')
        models = [
            Model(config, checkpoint, args.device)
            for config, checkpoint in [(args.config, args.checkpoint), *args.versus]
        ]
        for other in models[1:]:
            if other.classes != models[0].classes:
                raise UserError(f"'{other.config}' and '{models[0].config}' have different classes.")
        image = read_image(args.image)
        label = None if args.label is None else read_label(args.label, models[0], image.shape[:2])
        names = name_models(models, args.names)
        predictions = [model.predict(args.image, name) for model, name in zip(models, names, strict=True)]
        first = models[0]
        scene = Scene(image, label, predictions, first.classes, first.palette, first.ignore_index, args.ignore_policy)
        class_index = choose_class(scene, args.class_name)
        line = choose_pixels(scene, class_index, args.row, args.column, args.span)
        out = Path(args.out or Path('work_dirs', 'visualize', Path(args.image).stem))
        require_writable(str(out), '--out')
        for name, figure in draw_all(scene, class_index, line, ksizes):
            figure.savefig(out / f'{name}.png')
            print(out / f'{name}.png')


if __name__ == '__main__':
    main()
