"""Finds missing, misplaced and invalid files of a dataset."""

from __future__ import annotations

import os.path as osp
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mmseg
import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations
from mmseg.datasets import BaseSegDataset
from PIL import Image, UnidentifiedImageError

from mmseg_cpg.datasets.files import list_files
from mmseg_cpg.datasets.label_values import (
    count_values,
    decodes_itself,
    find_image_step,
    find_loading_step,
    map_with_progress,
    read_image,
    read_label,
    values_after_loading,
)
from mmseg_cpg.structures import names_by_id, void_in_place_of_class

ERROR, WARNING = 'ERROR', 'WARNING'
NO_LOADER = "the pipeline has no 'Load...' step for images"
EXIF_ORIENTATION = 0x0112  # values from 5 on mean a rotation by 90 degrees, which some ways of loading ignore


class Published(NamedTuple):
    """The number of images of a published split, and MMSegmentation's converter of its labels."""

    images: int
    converter: str = ''
    needs: str = ''


CITYSCAPES = dict(converter='cityscapes.py', needs='pip install cityscapesscripts; ')
COCO_STUFF = dict(converter='coco_stuff10k.py')
# By dataset class and suffix of the image folder.
PUBLISHED = {
    ('CityscapesDataset', 'leftImg8bit/train'): Published(2975, **CITYSCAPES),
    ('CityscapesDataset', 'leftImg8bit/val'): Published(500, **CITYSCAPES),
    ('CityscapesDataset', 'leftImg8bit/train_extra'): Published(19998),
    ('ADE20KDataset', 'images/training'): Published(20210),
    ('ADE20KDataset', 'images/validation'): Published(2000),
    ('COCOStuffDataset', 'images/train2014'): Published(9000, **COCO_STUFF),
    ('COCOStuffDataset', 'images/test2014'): Published(1000, **COCO_STUFF),
}


def find_missing(dataset_cfg: Any) -> Path | None:
    """The first missing folder of a dataset's config, None if all exist."""
    root = Path(dataset_cfg.get('data_root') or '')
    folders = [root, *(root / prefix for prefix in (dataset_cfg.get('data_prefix') or {}).values() if prefix)]
    return next((folder for folder in folders if not folder.is_dir()), None)


def find_misplaced(dataset_cfg: Any, missing: Path) -> Path | None:
    """Look for a missing folder of a dataset up to two levels away.

    Returns:
        A folder at the same place whose name differs in case or in [-_], else one with the same name, else None.
    """
    root = Path(dataset_cfg.get('data_root') or '')
    bases = [parent for parent in missing.parents if parent.is_dir()][:2]
    alike = _follow(bases[0], missing.relative_to(bases[0]).parts)
    if alike is not None:
        return alike
    for base in bases:
        # The parent folder of a data root may be missing too.
        for name in [missing.relative_to(base).as_posix(), *([root.name] if missing == root else [])]:
            for pattern in (name, f'*/{name}', f'*/*/{name}'):
                found = next((path for path in sorted(base.glob(pattern)) if path.is_dir()), None)
                if found is not None:
                    return found
    return None


def _follow(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the folder at a path, ignoring case and [-_] in its parts; None if there is none."""
    for name in names:
        alike = (path for path in sorted(folder.iterdir()) if _plain(path.name) == _plain(name) and path.is_dir())
        found = next(alike, None)
        if found is None:
            return None
        folder = found
    return folder


def _plain(name: str) -> str:
    return re.sub('[-_]', '', name).lower()


def check_files(dataset: BaseSegDataset, num_labels: int | None) -> Iterator[tuple[str, str]]:
    """Check the files of a dataset whose folders exist.

    Args:
        dataset: Built with ``lazy_init=True``.
        num_labels: Number of images and labels to read, evenly spread over the files; None for all.

    Yields:
        ``ERROR``, ``WARNING`` (possibly intended) or '', and the finding in one line.
    """
    published = _published(dataset)
    try:
        infos = dataset.load_data_list()
    except OSError as error:  # such as a loop of symbolic links
        yield ERROR, f"images cannot be listed ({error.strerror}: '{error.filename}')"
        return
    count = f"{len(infos):,} images (*{dataset.img_suffix}) in '{dataset.data_prefix['img_path']}'"
    if published:
        yield ERROR if len(infos) != published.images else '', f'{count}, {published.images:,} expected'
    else:
        yield '', count
    step = find_loading_step(dataset)
    folder = dataset.data_prefix.get('seg_map_path')
    if not folder or step is None:
        yield '', 'no labels are loaded'
        return

    hint = _converter_hint(dataset, published)
    existing = {osp.join(folder, name) for name in list_files(folder, dataset.seg_map_suffix)}
    labels = [info['seg_map_path'] for info in infos]
    # A dataset class may have labels in other folders too.
    missing = [label for label in labels if label not in existing and not osp.isfile(label)]
    absent = set(missing)
    pairs = [(info['img_path'], info['seg_map_path']) for info in infos if info['seg_map_path'] not in absent]
    yield '', f"{len(pairs):,} labels (*{dataset.seg_map_suffix}) for them in '{folder}'"
    if missing:
        # Splits may have some file names in common.
        other = None if pairs else _other_split(folder, missing)
        advice = f". They are in '{other}': are folders of two splits swapped?" if other else hint
        yield ERROR, f'{_number(missing, "label")} missing, {_example(missing)}{advice}'
    alone = [] if dataset.ann_file else sorted(existing.difference(labels))
    if alone:
        # Never loaded, but a sign of missing images, unless the images are known to be complete.
        complete = published is not None and published.images == len(infos)
        yield '' if complete else ERROR, f'{_number(alone, "label")} without an image, {_example(alone)}'
    image_step = find_image_step(dataset)
    sizes = list(map_with_progress(partial(_sizes, image_step, step), pairs, 'Comparing sizes'))
    yield from _compare_sizes(pairs, sizes)
    readable = [image for (image, _), pair_sizes in zip(pairs, sizes, strict=True) if pair_sizes != image]
    yield from _check_images(image_step, _spread(readable, num_labels))
    readable = [label for (_, label), pair_sizes in zip(pairs, sizes, strict=True) if pair_sizes != label]
    yield from _check_values(dataset, step, _spread(readable, num_labels), hint)


def _other_split(folder: str, labels: Iterable[str]) -> Path | None:
    """Return a folder next to a split's label folder that contains all of these labels, None if there is none."""
    names = [osp.relpath(label, folder) for label in labels]
    others = sorted(path for path in Path(folder).parent.iterdir() if path.is_dir())
    return next((other for other in others if all((other / name).is_file() for name in names)), None)


def _published(dataset: BaseSegDataset) -> Published | None:
    """Return the published split that a dataset loads as a whole, None if there is none."""
    folder = '/' + osp.normpath(dataset.data_prefix['img_path']).replace(osp.sep, '/')
    for (name, end), published in PUBLISHED.items():
        if type(dataset).__name__ == name and folder.endswith(f'/{end}') and not dataset.ann_file:
            return published
    return None


def _converter_hint(dataset: BaseSegDataset, published: Published | None) -> str:
    if published is None or not published.converter:
        return ''
    script = osp.join(osp.dirname(mmseg.__file__), '.mim', 'tools', 'dataset_converters', published.converter)
    if not osp.isfile(script):  # mmseg is installed from a checkout
        script = f'MMSEGMENTATION/tools/dataset_converters/{published.converter}'
    return f'. To make labels: {published.needs}python {script} {dataset.data_root} --nproc 8'


def _compare_sizes(
    pairs: Sequence[tuple[str, str]], sizes: Sequence[list[tuple[int, int]] | str | None]
) -> Iterator[tuple[str, str]]:
    """Compare the results of :func:`_sizes`."""
    unreadable = [path for path in sizes if isinstance(path, str)]
    compared = [(pair, found) for pair, found in zip(pairs, sizes, strict=True) if isinstance(found, list)]
    different = [
        ' and '.join(f"'{path}' {width}x{height}" for path, (width, height) in zip(pair, found, strict=True))
        for pair, found in compared
        if found[0] != found[1]
    ]
    if unreadable:
        yield ERROR, f'{_number(unreadable, "file")} unreadable, {_example(unreadable)}'
    if different:
        yield ERROR, f'{_number(different, "pair")} of different sizes, e.g. {different[0]}'
    else:
        yield '', f'{_number(compared, "pair")} compared in size'
    if None in sizes:
        unchecked = [pair for pair, found in zip(pairs, sizes, strict=True) if found is None]
        yield '', f'{_number(unchecked, "pair")} not compared in size: {NO_LOADER}'


def _sizes(
    image_step: BaseTransform | None, label_step: LoadAnnotations, pair: tuple[str, str]
) -> list[tuple[int, int]] | str | None:
    """Return (width, height) of image and label as loaded, the path that cannot be read, or None if unknown."""
    sizes = []
    for path, read, step in zip(pair, (read_image, read_label), (image_step, label_step), strict=True):
        try:
            size = _size_in_header(path) if step is None or _reads_as_pillow_does(step) else None
            if size is None:
                if step is None:
                    return None
                height, width = read(path, step).shape[:2]
                size = width, height
        except ValueError:
            return path
        sizes.append(size)
    return sizes


def _reads_as_pillow_does(step: BaseTransform) -> bool:
    """Whether a loading step reads the same image as Pillow. tifffile does not treat bands as pages."""
    if isinstance(step, LoadAnnotations) and decodes_itself(step):
        return False
    return getattr(step, 'imdecode_backend', 'tifffile') != 'tifffile'


def _size_in_header(path: str) -> tuple[int, int] | None:
    """The (width, height) in the header, None if Pillow cannot read the file or the loader may turn the image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                may_be_turned = image.format == 'JPEG' and image.getexif().get(EXIF_ORIENTATION, 1) >= 5
                return None if may_be_turned else image.size
    except (OSError, Image.DecompressionBombError):
        return None


def _check_images(step: BaseTransform | None, images: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Decode images, since a file with an intact header may be damaged."""
    if step is None:
        yield '', f'images not read: {NO_LOADER}'
        return
    damaged = [error for error in map_with_progress(partial(_damage, step), images, 'Reading images') if error]
    yield '', f'{_number(images, "image")} read'
    if damaged:
        yield ERROR, f'{_number(damaged, "image")} damaged, e.g. {damaged[0]}'


def _damage(step: BaseTransform, path: str) -> str:
    """Describe the damage of an image file, '' if there is none."""
    try:
        read_image(path, step)
    except ValueError as error:
        return str(error)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()  # some versions of OpenCV fill the missing end of a JPEG file with gray
    except (UnidentifiedImageError, Image.DecompressionBombError):
        pass  # the pipeline has read it, but Pillow does not
    except (OSError, SyntaxError) as error:
        return f"image '{path}' cannot be read ({error})"
    return ''


def _check_values(
    dataset: BaseSegDataset, step: LoadAnnotations, labels: Sequence[str], hint: str
) -> Iterator[tuple[str, str]]:
    """Look for values that are neither a class nor void, and for classes absent from all labels."""
    classes = dataset.metainfo.get('classes')
    if not classes:
        yield '', 'label values not checked: the dataset names no classes'
        return
    loaded = values_after_loading(dataset)
    names = names_by_id(classes)
    wrong = (loaded >= len(names)) & (loaded != dataset.ignore_index)
    unusable: list[str] = []
    files_by_value: dict[int, list[str]] = defaultdict(list)
    found = np.zeros(256, bool)
    for label, values in zip(labels, map_with_progress(partial(_values, step), labels, 'Reading labels'), strict=True):
        if isinstance(values, str):
            unusable.append(values)
        else:
            found |= values
            for value in np.flatnonzero(values & wrong).tolist():
                files_by_value[value].append(label)
    yield '', f'{_number(labels, "label")} read for {len(classes)} classes'
    absent_names = [name for index, name in enumerate(names) if not (found & (loaded == index)).any()]
    missing = void_in_place_of_class(set(loaded[found].tolist()), len(names), dataset.ignore_index)
    if missing:
        yield WARNING, f'in the {_number(labels, "label")} read, {missing}'
    elif absent_names and found.any():
        yield (
            WARNING,
            f'{len(absent_names)} of {len(names)} classes are absent from the {_number(labels, "label")} read, '
            f'which contain {", ".join(_ranges(np.flatnonzero(found)))}: {", ".join(absent_names)}',
        )
    if unusable:
        yield ERROR, f'{_number(unusable, "label")} unusable, e.g. {unusable[0]}{hint}'
    if files_by_value:
        files = sorted(set().union(*files_by_value.values()))
        values = ', '.join(map(str, sorted(files_by_value)))
        right = ', '.join(_ranges(np.flatnonzero(~wrong)))
        yield (
            ERROR,
            f'{_number(files, "label")} with invalid values, {_example(files)}: {values}; expected {right}{hint}',
        )


def _values(step: LoadAnnotations, path: str) -> np.ndarray | str:
    """Return which of the 256 values a label contains, (256,) bool, or an error message."""
    try:
        return count_values(path, step) > 0
    except ValueError as error:
        return str(error)


def _ranges(values: np.ndarray) -> Iterator[str]:
    """Format sorted integers as ranges: '0 to 18', '255'."""
    for run in np.split(values, np.flatnonzero(np.diff(values) > 1) + 1):
        yield str(run[0]) if len(run) == 1 else f'{run[0]} to {run[-1]}'


def _spread(items: Sequence[str], number: int | None) -> Sequence[str]:
    if number is None or len(items) <= number:
        return items
    return [items[index] for index in np.linspace(0, len(items) - 1, number).round().astype(int)]


def _number(items: Sized, noun: str) -> str:
    return f'{len(items):,} {noun}{"" if len(items) == 1 else "s"}'


def _example(items: Sequence[str]) -> str:
    return f"e.g. '{items[0]}'"
