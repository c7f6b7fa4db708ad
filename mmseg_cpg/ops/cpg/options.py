"""The options that define the loss, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from .._validation import check_bool, check_ignore_index
from .sobel import check_ksize

IGNORE_POLICIES = ('exclude', 'as_background')


@dataclass(frozen=True)
class CPGOptions:
    """What all implementations of the CPG loss need besides logits and label.

    Attributes:
        ksize: Odd kernel size in [3, 11].
        ignore_index: Id of void pixels in the label.
        ignore_policy: ``'exclude'`` or ``'as_background'``, see :func:`~mmseg_cpg.ops.boundary_targets`.
        use_sigmoid: P is sigmoid(z) instead of softmax(z).

    Raises:
        TypeError: ``ksize`` or ``ignore_index`` is not an int, or ``use_sigmoid`` not a bool.
        ValueError: ``ksize`` or ``ignore_policy`` has an invalid value.
    """

    ksize: int = 3
    ignore_index: int = 255
    ignore_policy: str = 'exclude'
    use_sigmoid: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, 'ksize', check_ksize(self.ksize))  # plain ints, also for NumPy's
        object.__setattr__(self, 'ignore_index', check_ignore_index(self.ignore_index))
        check_ignore_policy(self.ignore_policy)
        check_bool('use_sigmoid', self.use_sigmoid)


def check_ignore_policy(ignore_policy: str) -> None:
    """Raise ValueError unless ``ignore_policy`` is 'exclude' or 'as_background'."""
    if ignore_policy not in IGNORE_POLICIES:
        raise ValueError(f'ignore_policy must be one of {IGNORE_POLICIES}, got {ignore_policy!r}')
