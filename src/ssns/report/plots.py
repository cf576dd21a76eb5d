"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssns.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps, and the value at each."""

_SMOOTH_FROM = 100
_WINDOWS = 50


def curves(
    path: str | Path, losses: Mapping[str, Curve], scores: Mapping[str, Curve], *, best_step: int | None = None
) -> None:
    """Write a PNG with one panel for all losses and one for each validation score, over the training step.

    Long losses are drawn pale with their running mean (a fiftieth of the curve) on top; a panel whose values are all
    positive and span more than a factor of ten has a logarithmic axis.

    Args:
        path: The PNG.
        losses: Name to curve, drawn together.
        scores: Name to curve, one panel each.
        best_step: Step of the checkpoint that was kept as the best, marked by a line.

    Raises:
        UserError: There is nothing to draw.
    """
    from matplotlib.figure import Figure

    panels = {"loss": losses} | {name: {name: curve} for name, curve in scores.items()}
    panels = {title: drawn for title, drawn in panels.items() if any(len(steps) for steps, _ in drawn.values())}
    if not panels:
        raise UserError("there are no losses and no scores to draw: train for at least one step first")
    figure = Figure(figsize=(4.5 * len(panels), 3.4), dpi=100, layout="constrained")
    for axes, (title, drawn) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _draw(axes, title, drawn)
        if best_step is not None:
            axes.axvline(best_step, color="0.6", linestyle="--", linewidth=1, label=f"best, step {best_step}")
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(frameon=False, fontsize="small")
    figure.savefig(path)


def _draw(axes: Axes, title: str, drawn: Mapping[str, Curve]) -> None:
    for index, (name, (steps, values)) in enumerate(drawn.items()):
        color = f"C{index}"
        if len(values) < _SMOOTH_FROM:
            axes.plot(steps, values, color=color, marker="." if len(values) < _WINDOWS else None, label=name)
            continue
        width = len(values) // _WINDOWS
        window = np.full(width, 1 / width)
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.7)
        axes.plot(steps[width - 1 :], np.convolve(values, window, mode="valid"), color=color, label=name)
    everything = np.concatenate([np.asarray(values, dtype=np.float64) for _, values in drawn.values()])
    finite = everything[np.isfinite(everything)]
    if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min():
        axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
