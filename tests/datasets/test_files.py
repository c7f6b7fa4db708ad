"""Files are listed through symbolic links, each once, and loops of links end."""

import os

import pytest

from mmseg_cpg.datasets.files import list_files


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'labels'
    for path in ('a.png', 'city/b.png', 'city/deep/c.png', 'city/d.jpg', '.hidden.png'):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


EXPECTED = ['a.png', 'city/b.png', 'city/deep/c.png']


@pytest.mark.parametrize(
    ('link', 'target'),
    [
        ('loop', '.'),
        ('city/loop', '..'),
        ('city/deep/loop', '../..'),
        ('city/loop', 'loop'),
        ('up', '..'),
        ('broken', 'nowhere'),
        ('broken.png', 'nowhere.png'),
    ],
)
def test_loops_end(folder, link, target):
    os.symlink(target, folder / link)
    assert sorted(list_files(folder, '.png')) == EXPECTED


def test_two_folders_that_link_to_each_other_end(folder):
    os.symlink('../city', folder / 'city' / 'x')
    (folder / 'other').mkdir()
    os.symlink('../city/deep', folder / 'other' / 'y')
    os.symlink('../../other', folder / 'city' / 'deep' / 'z')
    assert sorted(list_files(folder, '.png')) == [*EXPECTED, 'other/y/c.png']


def test_two_folders_inside_each_other_end(tmp_path):
    for one, other in (('a', 'b'), ('b', 'a')):
        (tmp_path / one).mkdir()
        (tmp_path / one / f'{one}.png').touch()
        os.symlink(f'../{other}', tmp_path / one / 'link')
    assert sorted(list_files(tmp_path / 'a', '.png')) == ['a.png', 'link/b.png']


def test_links_to_other_places_are_followed(folder, tmp_path):
    elsewhere = tmp_path / 'labels of another disk'
    elsewhere.mkdir()
    (elsewhere / 'e.png').touch()
    os.symlink(elsewhere, folder / 'more')
    os.symlink(folder / 'a.png', folder / 'f.png')
    assert sorted(list_files(str(folder), '.png')) == [*EXPECTED, 'f.png', 'more/e.png']
    os.symlink(folder, tmp_path / 'link')
    assert len(list(list_files(tmp_path / 'link', '.png'))) == 5
