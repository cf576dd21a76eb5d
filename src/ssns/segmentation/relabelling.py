"""Ids made dense, in the smallest type that holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.unsignedinteger[Any]]
"""Ids 1 .. n, and 0 for nothing, in an unsigned type."""


def relabel(ids: NDArray[Any]) -> Ids:
    """Replace ids by 1 .. n in their order; 0 stays.

    Args:
        ids: Any shape, not negative; memory grows with the largest.

    Returns:
        Same shape, smallest sufficient unsigned type.
    """
    present = np.zeros(int(ids.max(initial=0)) + 1, dtype=bool)
    present[ids] = True
    present[0] = False
    table = np.cumsum(present)
    dense: Ids = as_smallest(table)[ids]
    return dense


def as_smallest(ids: NDArray[Any]) -> Ids:
    """The same ids in the smallest unsigned type."""
    smallest: Ids = ids.astype(np.min_scalar_type(int(ids.max(initial=0))))
    return smallest
