"""The CPG loss (Shan & Jia, arXiv 2404.06704).

From a label and logits to the loss: ``loss`` checks the arguments, ``implementations`` chooses how to compute,
``targets`` finds the boundary of the label (for ``sparse``; ``dense`` and ``triton_autograd`` find it themselves), and
``loss`` reduces.

Glossary, for all files of this package:

class index
    Id of a class in [0, C), in labels and as a channel of the logits. A single channel is class 1.
void
    Pixels whose label is ``ignore_index``.
edge_true, edge_pred
    Sobel responses G = S * T and Ĝ = S * P of the one-hot label T and the probabilities P (Eq. 5), in x and in y.
    Always as numerators of S, over the denominator of ``sobel_numerators``, until the residual is divided once.
residual
    edge_pred - edge_true.
entry
    A pixel, class and direction with M = 1: edge_true is non-zero and the pixel is valid (Eq. 13). N is their number. A
    row of ``BoundaryTargets`` has one or both directions of a pixel and class.
valid
    Pixels that the void policy keeps: with ``'exclude'`` no void pixel is in their k x k window.
receptive
    Pixels in the k x k window of some boundary entry. The logits of no other pixel affect the loss.
tile, halo, patch
    The image is cut into square tiles. A patch is a tile with a halo of r or 2 r pixels around it, r = (k - 1) / 2.
main loss
    Cross-entropy, of the softmax or binary, that is computed together with the CPG loss.
label weight
    Sum over all pixels that are not void of their class weights in the main loss, of 1 for binary cross-entropy.
grad_*
    Derivatives of the loss, and nothing else.

NaN contract: a NaN logit anywhere in the window of an entry makes the loss NaN, although S is 0 at its center and along
its middle row or column. So no implementation skips weights of 0.
"""

from .fused import CrossEntropyCPG, cross_entropy_cpg_loss
from .loss import cpg_loss
from .sobel import sobel_numerators
from .targets import BoundaryTargets, boundary_targets, stack_targets

__all__ = [
    'BoundaryTargets',
    'CrossEntropyCPG',
    'boundary_targets',
    'cpg_loss',
    'cross_entropy_cpg_loss',
    'sobel_numerators',
    'stack_targets',
]
