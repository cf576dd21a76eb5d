"""Connected pieces of ground truth."""

from __future__ import annotations

from typing import Any, Literal

import bioimage_cpp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssns.errors import UserError
from ssns.metrics.contingency import check_ids

_NEIGHBOUR_STEPS = {6: 1, 18: 2, 26: 3}
"""Neighbours of a voxel -> axes along which a neighbour may differ, as the library wants it."""


def components(
    labels: ArrayLike, background: int | None = 0, connectivity: Literal[6, 18, 26] = 26
) -> NDArray[np.unsignedinteger[Any]]:
    """Give every connected piece of equal ids an id of its own.

    Truth that is cut from a larger volume holds neurons that leave the box and come back. Nothing in the box joins
    the pieces, so no segmentation of it can, and scores are fair only after this.

    Args:
        labels: Ids (z, y, x), any integer type.
        background: The id that stays background, 0 in the result. None: every id is a neuron.
        connectivity: 6, 18 or 26 neighbours.

    Returns:
        Ids 1 .. n (z, y, x), smallest sufficient unsigned type; touching voxels share one exactly where their ids do.

    Raises:
        UserError: Labels are not three-dimensional, not integers, or negative; unknown connectivity.
    """
    ids = np.asarray(labels)
    check_ids(ids, "labels")
    if ids.ndim != 3:
        raise UserError(f"labels: wanted three axes (z, y, x), got shape {ids.shape}: stack sections into a volume")
    if connectivity not in _NEIGHBOUR_STEPS:
        raise UserError(f"connectivity: wanted 6, 18 or 26, got {connectivity}")
    steps = _NEIGHBOUR_STEPS[connectivity]
    ids = ids.astype(np.uint64, copy=False)
    if background is None:
        # The library insists on a background: what it leaves out is labelled on its own.
        pieces = bioimage_cpp.segmentation.label(ids, background=0, connectivity=steps)
        rest = bioimage_cpp.segmentation.label(ids == 0, background=0, connectivity=steps)
        pieces = np.where(rest > 0, rest + pieces.max(initial=0), pieces)
    else:
        pieces = bioimage_cpp.segmentation.label(ids, background=background, connectivity=steps)
    smallest: NDArray[np.unsignedinteger[Any]] = pieces.astype(np.min_scalar_type(int(pieces.max(initial=0))))
    return smallest
