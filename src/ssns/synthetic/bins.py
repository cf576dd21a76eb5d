"""Bins of space: which of many pieces may matter at a place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled

BIN_NM = 250.0


class Bins(NamedTuple):
    """Pieces listed by bin, in ascending order: those of bin (z, y, x) are ``items[start[i]:start[i + 1]]``.

    Bins lie at multiples of ``BIN_NM`` from position 0. What a bin lists does not depend on the region that was
    asked for, so that what is computed from it does not either.

    Attributes:
        first: Index of the first bin along z, y, x (3,).
        shape: Number of bins along z, y, x (3,).
        start: Where the list of each bin begins (bins + 1,).
        items: Indices of pieces.
        size: Extent of a bin in nm.
    """

    first: NDArray[np.int64]
    shape: NDArray[np.int64]
    start: NDArray[np.int64]
    items: NDArray[np.int64]
    size: float


@compiled
def _count_or_list(
    low: NDArray[np.int64], high: NDArray[np.int64], bins: Bins, place: NDArray[np.int64], listing: bool
) -> None:
    for piece in range(low.shape[0]):
        for z in range(max(0, low[piece, 0]), min(bins.shape[0], high[piece, 0] + 1)):
            for y in range(max(0, low[piece, 1]), min(bins.shape[1], high[piece, 1] + 1)):
                for x in range(max(0, low[piece, 2]), min(bins.shape[2], high[piece, 2] + 1)):
                    index = (z * bins.shape[1] + y) * bins.shape[2] + x
                    if listing:
                        bins.items[place[index]] = piece
                    place[index] += 1


def sort_into_bins(
    low: NDArray[np.floating], high: NDArray[np.floating], region: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> Bins:
    """List pieces by the bins of a region.

    Args:
        low: Lowest position that each piece matters at (n, 3), in nm.
        high: Highest, likewise.
        region: Lowest and highest position that will be asked for.
    """
    first = np.floor(region[0] / BIN_NM).astype(np.int64)
    shape = np.floor(region[1] / BIN_NM).astype(np.int64) - first + 1
    low_bin = np.floor(low / BIN_NM).astype(np.int64) - first
    high_bin = np.floor(high / BIN_NM).astype(np.int64) - first
    inside = np.flatnonzero(((high_bin >= 0) & (low_bin < shape)).all(1))
    low_bin, high_bin = low_bin[inside], high_bin[inside]
    place = np.zeros(int(shape.prod()), np.int64)
    bins = Bins(first, shape, np.zeros(0, np.int64), np.zeros(0, np.int64), BIN_NM)
    _count_or_list(low_bin, high_bin, bins, place, False)
    start = np.concatenate([[0], np.cumsum(place)])
    bins = bins._replace(start=start, items=np.empty(int(start[-1]), np.int64))
    _count_or_list(low_bin, high_bin, bins, start[:-1].copy(), True)
    return bins._replace(items=inside[bins.items])
