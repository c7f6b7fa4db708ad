"""The order in which threads work on the bands of a batch."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest

from mmseg_cpg.ops import boundary_targets
from mmseg_cpg.ops.cpg.bands import bands_of_batch, schedule


@pytest.mark.parametrize('number', [*range(40), 100])
@pytest.mark.parametrize('num_steps', [2, 4])
def test_steps_wait_for_their_neighbors_and_jobs_do_not_overlap(number, num_steps):
    done = []
    for jobs in schedule(number, [partial(lambda step, band: (step, band), step) for step in range(num_steps)]):
        logs = [[call() for call in job] for job in jobs]
        for log in logs:
            before = set(done)
            for step, band in log:
                needed = {(step - 1, each) for each in (band - 1, band, band + 1) if 0 <= each < number}
                assert step == 0 or needed <= before
                before.add((step, band))
        touched = [
            {each for step, band in log for each in ((band - 1, band, band + 1) if step % 2 else (band,))}
            for log in logs
        ]
        assert not any(one & other for one, other in combinations(touched, 2))
        done += [each for log in logs for each in log]
    assert sorted(done) == [(step, band) for step in range(num_steps) for band in range(number)]


def test_there_is_work_for_several_threads():
    ranges, _ = schedule(16, [print])
    assert len(ranges) == 2


@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 70, 90), (1, 512, 8), (0, 8, 8)])
def test_bands_cover_the_batch_in_order(shape):
    label = np.random.default_rng(0).integers(0, 3, shape)
    targets = boundary_targets(label, 3)
    bands = bands_of_batch(targets, num_classes=3)
    rows = [(band.image, y) for band in bands for y in range(band.rows.start, band.rows.stop)]
    assert rows == [(image, y) for image in range(shape[0]) for y in range(shape[1])]
    pixels = targets.pixel.numpy() // shape[2]
    for band in bands:
        inside = [band.image * shape[1] + y for y in range(band.rows.start, band.rows.stop)]
        assert set(pixels[band.entries]) <= set(inside)
    assert [index for band in bands for index in range(*band.entries.indices(len(targets)))] == [*range(len(targets))]
