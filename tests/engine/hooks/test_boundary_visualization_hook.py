"""The hook's pictures are those of the scene it is given, and reach every backend."""

import copy
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_cpg import BoundaryVisualizationHook
from mmseg_cpg.visualization import Prediction, Scene, choose_line, draw_errors, draw_gradients, draw_profile, render

META = dict(classes=('a', 'b'), palette=[[200, 0, 0], [0, 0, 200]])


@pytest.fixture
def sample(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'street.png'), image[..., ::-1])
    label = torch.zeros(1, 32, 40, dtype=torch.long)
    label[:, 8:24, 10:30] = 1
    logits = torch.randn(2, 32, 40, generator=torch.Generator().manual_seed(0))
    sample = SegDataSample(metainfo=dict(img_path=str(tmp_path / 'street.png')))
    sample.gt_sem_seg, sample.seg_logits = PixelData(data=label), PixelData(data=logits)
    sample.pred_sem_seg = PixelData(data=logits.argmax(0, keepdim=True))
    return sample, Scene(image, label[0].numpy(), [Prediction.from_sample('prediction', sample)], **META)


def run(hook, samples, folder, mode='val', batches=(0,), backends=('LocalVisBackend',), meta=META, model=None):
    """Run the hook as a loop does, and return the pictures that it left, RGB, by file name."""
    visualizer = Visualizer(vis_backends=[dict(type=backend) for backend in backends], save_dir=str(folder))
    visualizer.dataset_meta = meta
    runner = SimpleNamespace(visualizer=visualizer, iter=7, model=model)
    for batch_idx in batches:
        getattr(hook, f'after_{mode}_iter')(runner, batch_idx, {}, samples)
    visualizer.close()
    return {path.name: cv2.imread(str(path))[..., ::-1] for path in Path(folder).rglob('*.png')}


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_pictures_of_a_batch(sample, tmp_path, mode):
    sample, scene = sample
    found = run(BoundaryVisualizationHook(interval=1, class_name='b'), [sample], tmp_path / 'out', mode)
    line = choose_line(scene.label == 1)
    expected = dict(
        errors=draw_errors(scene, line),
        gradients=draw_gradients(scene, 1, 3, line),
        profile=draw_profile(scene, 1, line),
    )
    assert found.keys() == {f'{mode}_street_{name}_7.png' for name in expected}
    for name, figure in expected.items():
        np.testing.assert_array_equal(found[f'{mode}_street_{name}_7.png'], render(figure))


def test_every_interval_of_batches(sample, tmp_path):
    hook = BoundaryVisualizationHook(interval=3)
    assert run(hook, [sample[0]], tmp_path / 'out', batches=(0, 1)) == {}
    assert len(run(hook, [sample[0]], tmp_path / 'out', batches=(2,))) == 3


def test_without_a_label(sample, tmp_path):
    sample, _ = sample
    del sample.gt_sem_seg
    found = run(BoundaryVisualizationHook(interval=1), [sample], tmp_path / 'out', 'test')
    assert found.keys() == {'test_street_gradients_7.png', 'test_street_profile_7.png'}


def test_tensorboard_gets_the_same_pictures(sample, tmp_path):
    accumulators = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    backends = ('LocalVisBackend', 'TensorboardVisBackend')
    found = run(BoundaryVisualizationHook(interval=1), [sample[0]], tmp_path / 'out', backends=backends)
    events = accumulators.EventAccumulator(str(tmp_path / 'out' / 'vis_data')).Reload()
    assert {f'{tag}_7.png' for tag in events.Tags()['images']} == found.keys()
    for tag in events.Tags()['images']:
        (event,) = events.Images(tag)
        picture = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert event.step == 7
        np.testing.assert_array_equal(picture, found[f'{tag}_7.png'])


def test_void_is_the_models_own(sample, tmp_path):
    sample, scene = sample
    void = Scene(scene.image, scene.label, scene.predictions, **META, ignore_index=0)
    model = nn.Module()
    model.module = nn.Module()  # as a wrapper that distributes it has it
    model.module.decode_head = SimpleNamespace(ignore_index=0)
    found = run(BoundaryVisualizationHook(interval=1, class_name='b'), [sample], tmp_path / 'out', model=model)
    line = choose_line(scene.label == 1)
    for figure, name in ((draw_errors(void, line), 'errors'), (draw_profile(void, 1, line), 'profile')):
        np.testing.assert_array_equal(found[f'val_street_{name}_7.png'], render(figure))
    assert not np.array_equal(found['val_street_errors_7.png'], render(draw_errors(scene, line)))


def test_images_that_cannot_be_drawn_are_skipped_with_one_warning(sample, tmp_path):
    sample, _ = sample
    missing, unreadable, small = (copy.deepcopy(sample) for _ in range(3))
    missing.set_metainfo(dict(img_path=str(tmp_path / 'missing.png')))
    unreadable.set_metainfo(dict(img_path=str(tmp_path / 'unreadable.png')))
    Path(unreadable.img_path).write_bytes(b'no image')
    small.set_metainfo(dict(img_path=str(tmp_path / 'small.png')))
    cv2.imwrite(small.img_path, np.zeros((5, 5, 3), np.uint8))
    with pytest.warns(UserWarning, match=r"skips '.*missing\.png'") as warned:
        found = run(BoundaryVisualizationHook(interval=1), [missing, unreadable, small, sample], tmp_path / 'out')
    assert {name.split('_')[1] for name in found if name.endswith('profile_7.png')} == {'street'}
    assert len([each for each in warned if 'BoundaryVisualizationHook' in str(each.message)]) == 1


def test_wrong_arguments():
    runner = SimpleNamespace(visualizer=SimpleNamespace(dataset_meta=META))
    with pytest.raises(ValueError, match='interval must be at least 1, got 0'):
        BoundaryVisualizationHook(interval=0)
    with pytest.raises(ValueError, match='ksize must be odd'):
        BoundaryVisualizationHook(ksize=4)
    with pytest.raises(ValueError, match=r"class_name must be one of \('a', 'b'\), got 'c'"):
        BoundaryVisualizationHook(class_name='c').before_run(runner)
    BoundaryVisualizationHook(class_name='b').before_run(runner)
