"""The converters of the evidence study's data, on small files in the public layouts."""

import cv2
import numpy as np
import pytest

# A road with a lane marking, a child, a wall, void and a color that the dataset has not.
COLORS = [(128, 64, 128), (128, 0, 192), (192, 128, 64), (64, 192, 0), (0, 0, 0), (1, 2, 3)]
IDS = [3, 3, 9, 1, 255, 255]
GRAYS = [0, 32, 64, 96, 128, 159, 191, 223, 255]


@pytest.fixture
def convert(tools, monkeypatch, tmp_path):
    """Run a converter in an empty folder."""
    monkeypatch.syspath_prepend(tools / 'dataset_converters')
    monkeypatch.chdir(tmp_path)

    def run(name, *argv):
        __import__(name).main([str(arg) for arg in argv])

    return run


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(content, np.uint8))


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_camvid_in_its_original_layout(convert, tmp_path, capsys):
    size = 720, 960
    colors = np.repeat(np.array(COLORS, np.uint8), 160, 0)[None].repeat(720, 0)
    for split, name in (('train', '0001TP_1'), ('val', '0016E5_2'), ('test', 'Seq05VD_3')):
        write(tmp_path / f'images/{name}.png', np.full((*size, 3), 100))
        write(tmp_path / f'labels/{name}_L.png', colors[..., ::-1])
        (tmp_path / f'{split}.txt').write_text(f'{name}.png\n')
    convert('camvid', 'images', '--labels', 'labels', '--splits', '.')
    label = read(tmp_path / 'data/camvid/ann_dir/val/0016E5_2.png')
    assert label.shape == (360, 480)
    assert label[0].reshape(6, 80)[:, 40].tolist() == IDS
    assert read(tmp_path / 'data/camvid/img_dir/train/0001TP_1.jpg').shape == (360, 480, 3)
    assert '1 train, 1 val, 1 test images' in capsys.readouterr().out


def test_camvid_in_segnets_layout(convert, tmp_path):
    label = np.arange(12).repeat(30).reshape(1, -1).repeat(360, 0)
    for split in ('train', 'val', 'test'):
        write(tmp_path / f'CamVid/{split}/a.png', np.zeros((360, 360, 3)))
        write(tmp_path / f'CamVid/{split}annot/a.png', label)
    convert('camvid', 'CamVid', '-o', 'out')
    assert np.unique(read(tmp_path / 'out/ann_dir/train/a.png')).tolist() == [*range(11), 255]


def test_camvid_elsewhere(convert, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"Error: '\.' has no folder trainannot"):
        convert('camvid', '.')
    for option in ('--labels', '--splits'):
        with pytest.raises(SystemExit):
            convert('camvid', '.', option, '.')
        assert 'needs both --labels and --splits' in capsys.readouterr().err


def test_camvid_without_images(convert, tmp_path):
    (tmp_path / 'CamVid/trainannot').mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"^Error: 'CamVid' has no images for train and val\.$"):
        convert('camvid', 'CamVid')
    write(tmp_path / 'CamVid/train/a.png', np.zeros((8, 8, 3)))
    write(tmp_path / 'CamVid/trainannot/a.png', np.zeros((8, 8)))
    with pytest.raises(SystemExit, match=r"^Error: 'CamVid' has no images for val\.$"):
        convert('camvid', 'CamVid')


def test_a_full_disk(convert, tmp_path, monkeypatch):
    """OpenCV reports it by its result alone."""
    write(tmp_path / 'CamVid/train/a.png', np.zeros((8, 8, 3)))
    write(tmp_path / 'CamVid/trainannot/a.png', np.zeros((8, 8)))
    write_stack(tmp_path, GRAYS)
    monkeypatch.setattr(cv2, 'imwrite', lambda *_: False)
    with pytest.raises(SystemExit, match=r"^Error: cannot write image 'data/camvid/img_dir/train/a\.jpg'\.$"):
        convert('camvid', 'CamVid')
    with pytest.raises(SystemExit, match=r"^Error: cannot write image 'data/sstem/img_dir/train/section_00\.png'\.$"):
        convert('sstem', '.')


def write_stack(folder, grays):
    for section in range(20):
        write(folder / f'stack1/raw/{section:02}.tif', np.full((len(grays), len(grays)), section))
        write(folder / f'stack1/labels/labels{section:08}.png', np.array([grays] * len(grays)))


def test_sstem(convert, tmp_path, capsys):
    write_stack(tmp_path, GRAYS)
    convert('sstem', '.', '--size', len(GRAYS))
    for split, section, count in (('train', 12, 13), ('val', 13, 3), ('test', 16, 4)):
        label = read(tmp_path / f'data/sstem/ann_dir/{split}/section_{section}.png')
        assert label[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]
        assert read(tmp_path / f'data/sstem/img_dir/{split}/section_{section}.png')[0, 0] == section
        assert len(list((tmp_path / f'data/sstem/img_dir/{split}').iterdir())) == count


def test_sstem_at_half_its_size(convert, tmp_path):
    write_stack(tmp_path, [255, 255, 0, 255, 191, 191])
    convert('sstem', '.', '--size', 3)
    label = read(tmp_path / 'data/sstem/ann_dir/val/section_13.png')
    assert label[0].tolist() == [4, 0, 2]  # of two equal shares, that of the lower class, the membrane
    image = read(tmp_path / 'data/sstem/img_dir/val/section_13.png')
    assert image.shape == (3, 3)
    assert (image == 13).all()


def test_sstem_without_pixels(convert, capsys):
    with pytest.raises(SystemExit):
        convert('sstem', '.', '--size', 0)
    assert '--size must be at least 1, got 0' in capsys.readouterr().err


def test_sstem_with_other_values(convert, tmp_path):
    write_stack(tmp_path, [*GRAYS, 17])
    with pytest.raises(SystemExit, match=r"labels00000000\.png': gray value 17 is not one of 0, 32"):
        convert('sstem', '.')
    with pytest.raises(SystemExit, match=r"cannot read image '.*00\.tif'"):
        convert('sstem', 'elsewhere')
