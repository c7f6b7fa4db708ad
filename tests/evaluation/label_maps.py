"""Made-up label maps."""

import numpy as np
from hypothesis import strategies as st

NUM_CLASSES = 3
VOID = 255


@st.composite
def pairs(draw):
    """A prediction and its label of cells or of noise, with some void; sometimes they are alike."""
    shape = draw(st.tuples(st.integers(1, 11), st.integers(1, 11)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def draw_map():
        cell = draw(st.integers(1, 5))
        cells = rng.integers(0, NUM_CLASSES, [-(-size // cell) for size in shape])
        return cells.repeat(cell, 0).repeat(cell, 1)[: shape[0], : shape[1]].astype(np.uint8)

    label = draw_map()
    pred = np.roll(label, draw(st.integers(0, 2)), axis=1) if draw(st.booleans()) else draw_map()
    void = rng.random(shape) < draw(st.sampled_from([0, 0, 0.02, 0.3]))
    return pred, np.where(void, np.uint8(VOID), label)
