"""What `ssns init` holds out of the labels for validation, and what is left to learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ssns.volume.sections import runs

MOST_VOXELS = 16_000_000
"""Held out at most: each validation predicts, segments and scores all of it, at every threshold."""

LEAST_DEPTH = 8
"""Sections that the part held out keeps where it has to be smaller: fewer would judge little of merges along z."""

Table = dict[str, list[int]]
"""A region, as the experiment file has it."""

Span = tuple[int, int]


def hold_out(sections: Sequence[int], y: Span, x: Span, most: int) -> tuple[list[Table], Table]:
    """Divide labels: every voxel is in one region that is learned from, or in the one that is held out.

    Held out is an xy quarter in all depth. Where that has more than ``most`` voxels, it is the last sections of it, and
    where the last `LEAST_DEPTH` have more, a smaller corner of those.

    Args:
        sections: The labelled sections, ascending.
        y: Where they are labelled, first row and one past the last, at least 2 apart.
        x: The same for columns.
        most: Voxels to hold out at most; at least one is.

    Returns:
        The regions to learn from, and the one to validate on.
    """
    height, width = (y[1] - y[0]) - (y[1] - y[0]) // 2, (x[1] - x[0]) - (x[1] - x[0]) // 2
    depth = min(len(sections), max(LEAST_DEPTH, most // (height * width)))
    room = max(1, most // depth)
    height = max(
        1, min(height, room, int(height * math.sqrt(room / (height * width))))
    )  # one in shape with the quarter
    width = min(width, room // height)
    depth = min(depth, max(1, most // (height * width)))
    y_cut, x_cut = y[1] - height, x[1] - width
    first, last = list(sections[: len(sections) - depth]), list(sections[len(sections) - depth :])
    corner = {"y": [y_cut, y[1]], "x": [x_cut, x[1]]}
    labelled = [
        _in_depth(sections) | {"y": [y[0], y_cut], "x": list(x)},
        _in_depth(sections) | {"y": [y_cut, y[1]], "x": [x[0], x_cut]},
    ]
    if first:
        labelled.append(_in_depth(first) | corner)
    return labelled, _in_depth(last) | corner


def _in_depth(sections: Sequence[int]) -> Table:
    """Sections as a range, or listed where they do not follow each other."""
    found = list(runs(sections))
    return {"z": list(found[0])} if len(found) == 1 else {"sections": list(sections)}
