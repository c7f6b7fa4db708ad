"""Draw assets/boundaries.png: what "boundary" means in each part of this package, on one label of 10 x 10 pixels.

The package's own code finds every boundary. Sphinx runs this at each build:

    python docs/draw_boundaries.py
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mmseg_cpg.evaluation.boundary import trimap_band
from mmseg_cpg.evaluation.boundary.boundary_fscore import _boundary as fscore_boundary
from mmseg_cpg.evaluation.boundary.windows import window_has, window_has_change
from mmseg_cpg.ops import boundary_cross_entropy_loss, boundary_distance, boundary_targets, gradient_features
from mmseg_cpg.ops.active_boundary import _predicted_boundary as predicted_boundary
from mmseg_cpg.ops.boundary_f1 import _boundary as soft_rim
from mmseg_cpg.ops.semantic_edges import semantic_edges

OUT = Path(__file__).parent / 'assets' / 'boundaries.png'
VOID = 255
LABEL = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 2, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 2, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 2, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 2, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 255, 255],
        [0, 0, 0, 0, 0, 0, 0, 0, 255, 255],
    ],
    dtype=np.uint8,
)
NUM_CLASSES = 3
CLASS_COLORS = {'class 0': '#f2f2f2', 'class 1': '#bcd4ec', 'class 2': '#cfe8c6', 'void': '#8a8a8a'}
MARK_COLOR = '#d62728'


def boundaries() -> dict[str, np.ndarray]:
    """The boundary of LABEL by each definition: (10, 10) of bool under the title of its panel."""
    label = torch.from_numpy(LABEL)[None]
    void = label == VOID
    one_hot = torch.stack([(label == index).float() for index in range(NUM_CLASSES)], 1)
    uniform = torch.zeros_like(one_hot)
    rims = torch.stack([soft_rim(mask, void, 3) for mask in one_hot.unbind(1)])
    # Boundary IoU treats everything outside the image as background.
    outside = 254
    masks = {
        '1  CPG loss, ksize 3': boundary_targets(label, 3).mask(),
        '1  CPG loss, ksize 5': boundary_targets(label, 5).mask(),
        '2  Semantic edge of class 1': semantic_edges(label, NUM_CLASSES)[0][:, 1],
        '3  Boundary cross-entropy, 2 px': boundary_cross_entropy_loss(uniform, label, 2, reduction='none') > 0,
        '4  Active Boundary: label': boundary_distance(label) == 0,
        '5  Active Boundary: prediction': predicted_boundary(8 * one_hot, void, 0.25),
        '6  Boundary F1 loss, all classes': rims.amax(0) > 0,
        '7  GraDNet edge': gradient_features(one_hot).abs().amax(1) > 0,
        '8  Boundary IoU band, 1 px': window_has_change(LABEL, 1, outside) & ~window_has(LABEL == VOID, 1),
        '9  Trimap, 1 px': trimap_band(LABEL, 1, VOID),
        '10  Boundary F-score': fscore_boundary(LABEL, VOID),
    }
    return {title: np.asarray(mask).reshape(LABEL.shape) for title, mask in masks.items()}


def draw() -> Figure:
    figure = Figure(figsize=(7.2, 10), dpi=110, layout='constrained')
    panels = figure.subplots(4, 3).flat
    colors = ListedColormap(list(CLASS_COLORS.values()))
    no_boundary = np.zeros(LABEL.shape, bool)
    for axes, (title, mask) in zip(panels, {'The label': no_boundary, **boundaries()}.items(), strict=True):
        axes.imshow(np.where(LABEL == VOID, NUM_CLASSES, LABEL), cmap=colors, vmin=0, vmax=NUM_CLASSES)
        rows, columns = mask.nonzero()
        axes.scatter(columns, rows, s=80, marker='s', color=MARK_COLOR, linewidths=0)
        axes.set_xticks(np.arange(9) + 0.5, labels=[])
        axes.set_yticks(np.arange(9) + 0.5, labels=[])
        axes.tick_params(length=0)
        axes.grid(color='white', linewidth=1)
        axes.set_title(title, fontsize=9.5)
    patches = [Patch(color=color, label=name) for name, color in [*CLASS_COLORS.items(), ('boundary', MARK_COLOR)]]
    figure.legend(handles=patches, loc='outside lower center', ncols=len(patches), frameon=False)
    return figure


if __name__ == '__main__':
    draw().savefig(OUT, metadata={'Software': None})
    print(f'wrote {OUT}')
