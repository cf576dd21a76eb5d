"""A picture of segments over raw, where there is no ground truth to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssns.commands.inputs import Part
from ssns.report import section_overlay, write_picture
from ssns.space import Box, triple

SIDE = 1024
"""Voxels along y and x that are shown."""


def show_middle(path: Path, part: Part, segments: Callable[[Box], Sequence[NDArray[np.integer]]]) -> Box:
    """Write raw and segments side by side, in the middle of a part.

    Args:
        path: The PNG.
        part: Its raw.
        segments: ``segments(box)`` gives segmentations (z, y, x) of a box of the part.

    Returns:
        What is shown, in raw.
    """
    (z, y, x) = part.box.shape
    height, width = min(y, SIDE), min(x, SIDE)
    middle = Box.of_shape((1, height, width), triple((z // 2, (y - height) // 2, (x - width) // 2)))
    shown = middle.shifted(part.box.start)
    raw = part.source.raw.read(shown)[0]
    plain = section_overlay(raw, np.zeros(raw.shape, np.uint8))
    write_picture(path, np.hstack([plain, *(section_overlay(raw, ids[0]) for ids in segments(middle))]))
    return shown
