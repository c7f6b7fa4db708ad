"""The table and the plot of a sweep over the weight (lambda) of the CPG loss."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from ..visualization.panels import TextFigure
from . import paper
from .experiments import deviations, identify
from .tables import Table

FLOATING_POINT = 'paper (Table 2, floating-point boundary)'


class Point(NamedTuple):
    """A weight, the mIoU in percent at the end of its training, None if there is none, and how the training stands."""

    weight: float
    miou: float | None
    state: str


class Sweep(NamedTuple):
    """What a sweep found.

    Args:
        name (str): Name of the config.
        ksizes (list[int]): Kernel sizes of its CPG losses.
        points (list[Point]): The trainings by weight.
        theirs (dict): The paper's mIoU by weight; empty where the paper has no such sweep.
        differing (list[str]): In what the sweep differs from the paper's recipe.
    """

    name: str
    ksizes: list
    points: list
    theirs: dict
    differing: list

    @property
    def best(self) -> Point | None:
        """The point with the highest mIoU, the smallest weight of equals; None while none is finished."""
        return max((point for point in self.points if point.miou is not None), key=lambda p: p.miou, default=None)

    @property
    def comparable(self) -> bool:
        """Whether the paper's weights mean the same here: with the smallest kernel, and trained alike."""
        return bool(self.theirs) and self.ksizes == [3] and not self.differing

    def table(self) -> Table:
        """The sweep as a table."""
        columns = ['λ', 'mIoU, %', 'state', 'best']
        rows = [
            [
                f'{point.weight:g}',
                '' if point.miou is None else f'{point.miou:.2f}',
                point.state,
                'best' if point is self.best else '',
            ]
            for point in self.points
        ]
        if self.theirs:
            columns.append(f'{FLOATING_POINT}, %')
            for row, point in zip(rows, self.points, strict=True):
                row.append(f'{self.theirs[point.weight]:.2f}' if point.weight in self.theirs else '')
        notes = ['mIoU is that of the validation at the end of training; one training for each λ.', *self.caveats()]
        return Table('sweep', f'{self.name}: mIoU over λ', columns, rows, notes)

    def caveats(self) -> list[str]:
        """What to know before the paper's numbers are read beside these."""
        if not self.theirs:
            return []
        differing = f"Differs from the paper's recipe: {', '.join(self.differing)}."
        return [lambda_caveat(self.ksizes[0]), *([differing] if self.differing else [])]

    def figure(self) -> Figure:
        """Draw mIoU over the weight (matplotlib Figure). At least one training must be finished."""
        finished = [point for point in self.points if point.miou is not None]
        kernels = ', '.join(f'{ksize}×{ksize}' for ksize in self.ksizes)
        notes = ["The paper's Table 2 is not shown, as it is not comparable.", *self.caveats()] if self.theirs else []
        text = '' if self.comparable else '\n'.join(line for note in notes for line in textwrap.wrap(note, 140))
        figure = TextFigure(figsize=(8, 5), dpi=120, layout='constrained')
        axes = figure.add_subplot()
        axes.plot([p.weight for p in finished], [p.miou for p in finished], 'o-', color='C0', label='this sweep')
        if self.comparable:
            theirs = sorted(self.theirs.items())
            axes.plot(*zip(*theirs, strict=True), 's--', color='0.6', zorder=1, label=FLOATING_POINT)
        label = f'best: {self.best.miou:.2f} % at λ = {self.best.weight:g}'
        axes.plot(self.best.weight, self.best.miou, '*', color='C3', markersize=18, zorder=3, label=label)
        axes.set_title(f'{self.name}\nCPG kernel {kernels}, {len(finished)} of {len(self.points)} trainings finished')
        axes.set_xlabel('λ (loss_weight of CPGLoss)')
        axes.set_ylabel('mIoU at the end of training, %')
        axes.grid(alpha=0.3)
        axes.legend()
        figure.supxlabel(text, fontsize=8, color='0.3')
        return figure


def lambda_caveat(ksize: int) -> str:
    """Say how the paper's lambda relates to the one here."""
    theirs, ours = (f'{weights[ksize]:g}' for weights in (paper.BEST_LOSS_WEIGHTS, paper.LOSS_WEIGHTS))
    return (
        f"Table 2's λ belongs to a floating-point boundary. Its best one for k = {ksize} is {theirs}, "
        f'which corresponds to {ours} here, where the boundary is exact.'
    )


def paper_sweep(cfg: Any, num_gpus: int | None) -> tuple[dict[float, float], list[str]]:
    """The paper's mIoU by weight for a config, and in what the config differs from the paper's recipe.

    Args:
        cfg (Config): A config whose CPG loss has a weight above 0.
        num_gpus (int): Number of GPUs that it trains on.

    Returns:
        tuple[dict, list[str]]: Both empty if the paper has no such sweep.
    """
    try:
        experiment = identify(cfg)
    except ValueError:
        return {}, []
    if experiment[:2] != (paper.DEEPLABV3, paper.CITYSCAPES) or experiment.rmi or experiment.ksize not in paper.TABLE_2:
        return {}, []
    return {0.0: paper.BASELINE, **paper.TABLE_2[experiment.ksize]}, deviations(cfg, experiment, num_gpus)
