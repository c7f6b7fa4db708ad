"""Convert the ssTEM stack of the Drosophila ventral nerve cord to MMSegmentation's layout.

Gerhard et al., "Segmented anisotropic ssTEM dataset of neural tissue" (figshare 856713): 20 sections of 1024x1024, in
``stack1/raw/NN.tif`` and ``stack1/labels/labels000000NN.png``. Labels are gray values: 0, 32, 64, 96 and 128 membrane,
159 glia and extracellular space, 191 mitochondria, 223 synapse, 255 intracellular (so 255 is not void here).

Neighboring sections are similar, so the split is by position: sections 0 to 12 are for training, 13 to 15 for
validation, 16 to 19 for testing.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

GRAY_TO_LABEL = {0: 0, 32: 0, 64: 0, 96: 0, 128: 0, 159: 1, 191: 2, 223: 3, 255: 4}
SPLITS = {'train': range(13), 'val': range(13, 16), 'test': range(16, 20)}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Convert the ssTEM stack to mmsegmentation format')
    parser.add_argument('source', type=Path, help='folder that contains stack1')
    parser.add_argument('-o', '--out_dir', default='data/sstem', help='output path (default: %(default)s)')
    parser.add_argument(
        '--size', type=int, default=1024, help='height and width to write, pixels (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    if args.size < 1:
        parser.error(f'--size must be at least 1, got {args.size}')
    return args


def label_of_grays(grays: np.ndarray) -> np.ndarray:
    """Convert a label in gray values, (H, W), to class ids, uint8.

    Raises:
        ValueError: It has other values.
    """
    unknown = np.setdiff1d(grays, [*GRAY_TO_LABEL])
    if unknown.size:
        raise ValueError(f'gray value {unknown[0]} is not one of {", ".join(map(str, GRAY_TO_LABEL))}')
    table = np.zeros(256, np.uint8)
    table[[*GRAY_TO_LABEL]] = [*GRAY_TO_LABEL.values()]
    return table[grays]


def shrink(label: np.ndarray, size: int) -> np.ndarray:
    """Resize a label, (H, W), to (size, size): each pixel becomes the class that covers most of it."""
    shares = [
        cv2.resize((label == index).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        for index in range(max(GRAY_TO_LABEL.values()) + 1)
    ]
    return np.argmax(shares, axis=0).astype(np.uint8)


def convert(source: Path, out_dir: Path, split: str, section: int, size: int) -> None:
    """Convert a section.

    Raises:
        OSError: A file cannot be written.
        ValueError: A file cannot be read.
    """
    stack = source / 'stack1'
    files = {'img_dir': f'raw/{section:02}.tif', 'ann_dir': f'labels/labels{section:08}.png'}
    for kind, path in ((kind, stack / name) for kind, name in files.items()):
        content = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if content is None:
            raise ValueError(f"cannot read image '{path}'")
        if kind == 'ann_dir':
            try:
                content = label_of_grays(content)
            except ValueError as error:
                raise ValueError(f"'{path}': {error}") from error
            content = shrink(content, size)
        else:
            content = cv2.resize(content, (size, size), interpolation=cv2.INTER_AREA)
        target = out_dir / kind / split / f'section_{section:02}.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(target), content):
            raise OSError(f"cannot write image '{target}'")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        for split, sections in SPLITS.items():
            for section in sections:
                convert(args.source, Path(args.out_dir), split, section, args.size)
    except (OSError, ValueError) as error:
        raise SystemExit(f'Error: {error}.') from error
    print(f'{", ".join(f"{len(each)} {split}" for split, each in SPLITS.items())} images written to {args.out_dir}.')


if __name__ == '__main__':
    main()
