"""A moving average of weights, and of running statistics."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn


def kept(decay: float, step: int) -> float:
    """Share of the average that step ``step`` (from 0) keeps: that of a plain mean of all steps, at most ``decay``.

    (Reference 5.4, with t = step + 1.)
    """
    return min(1 - 1 / (step + 2), decay)


@torch.no_grad()
def move_average(
    average: nn.Module,
    network: nn.Module,
    keep: float,
    *,
    buffers: Literal["averaged", "copied", "own"] = "averaged",
) -> None:
    """Keep that share of the average, and take the rest from the network.

    Args:
        average: Moved in place.
        network: Of the same parameters.
        keep: In [0, 1].
        buffers: What becomes of running statistics: averaged, those of the network, or left as they are. Counts of
            batches are those of the network unless they are left.
    """
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(theirs, 1 - keep)
    if buffers == "own":
        return
    for own, buffer in zip(average.buffers(), network.buffers(), strict=True):
        if buffers == "averaged" and own.is_floating_point():
            own.lerp_(buffer, 1 - keep)
        else:
            own.copy_(buffer)
