"""Distances to the boundary and regional maxima: where seeds lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled
from ssns.segmentation.frames import framed, steps, unframed

_FARTHEST = 46340
"""Its square is the largest that int32 holds."""


def squared_distance(inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Squared distance of each voxel to the nearest that is not inside, exact, in voxels.

    Columns are scanned, then the lower envelope of parabolas is taken along x, then along z (Meijster et al. 2000,
    doi 10.1007/0-306-47025-X_36).

    Args:
        inside: Shape (y, x) or (z, y, x).

    Returns:
        Same shape; the same number throughout if all voxels are inside.
    """
    return _squared_distance(inside.reshape(-1, *inside.shape[-2:])).reshape(inside.shape)


@compiled
def _squared_distance(inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """As `squared_distance`, (z, y, x)."""
    depth, height, width = inside.shape
    far = min(depth + height + width, _FARTHEST)
    result = np.empty(inside.shape, np.int32)
    for z in range(depth):
        for x in range(width):
            result[z, 0, x] = far if inside[z, 0, x] else 0
        for y in range(1, height):
            for x in range(width):
                result[z, y, x] = min(result[z, y - 1, x] + 1, far) if inside[z, y, x] else 0
        for y in range(height - 2, -1, -1):
            for x in range(width):
                result[z, y, x] = min(result[z, y, x], result[z, y + 1, x] + 1)
        for y in range(height):
            for x in range(width):
                result[z, y, x] *= result[z, y, x]
    scratch = np.empty((3, max(width, depth)), np.int64)
    for z in range(depth):
        for y in range(height):
            _add_distance(result[z, y], scratch)
    if depth > 1:
        line = np.empty(depth, np.int32)
        for y in range(height):
            for x in range(width):
                for z in range(depth):
                    line[z] = result[z, y, x]
                _add_distance(line, scratch)
                for z in range(depth):
                    result[z, y, x] = line[z]
    return result


@compiled
def _add_distance(line: NDArray[np.int32], scratch: NDArray[np.int64]) -> None:
    """``line[x]`` = minimum over i of ``line[i] + (x - i)^2``, in place.

    No parabola reaches across a place where ``line`` is 0: the runs between such places are apart from each other.
    """
    place, base, begin = scratch[0], scratch[1], scratch[2]  # Of each parabola of the envelope: where it is the lowest.
    end = 0
    while end < line.size - 1:
        start, last = end, 0
        place[0], base[0], begin[0] = start, line[start], start
        end += 1
        if line[start] == 0 and line[end] == 0:
            continue
        while True:
            here = np.int64(line[end])
            while last >= 0:
                at = begin[last]
                if base[last] + (at - place[last]) ** 2 <= here + (at - end) ** 2:
                    break
                last -= 1
            if last < 0:
                last, place[0], base[0], begin[0] = 0, end, here, start
            else:
                # Whole numbers below 2^53: no quotient is rounded to the other side of one.
                ahead = here - base[last] + end * end - place[last] * place[last]
                first = 1 + np.int64(np.floor(ahead / (2.0 * (end - place[last]))))
                if first < line.size:
                    last += 1
                    place[last], base[last], begin[last] = end, here, first
            if here == 0 or end == line.size - 1:
                break
            end += 1
        for x in range(end, start - 1, -1):
            while begin[last] > x:
                last -= 1
            line[x] = base[last] + (x - place[last]) ** 2


def regional_maxima(values: NDArray[Any]) -> NDArray[np.uint32]:
    """Label the regional maxima: connected voxels of one value of which none has a larger neighbour along an axis.

    Args:
        values: Signed whole numbers, or floats.

    Returns:
        Ids 1 .. n in the order of their first voxel, 0 elsewhere; same shape.
    """
    heights = framed(values, values.min() - 1)
    labels = np.zeros(heights.shape, np.uint32)
    _label_maxima(heights.ravel(), labels.ravel(), steps(heights.shape))
    return np.ascontiguousarray(unframed(labels))


@compiled
def _label_maxima(heights: NDArray[Any], labels: NDArray[np.uint32], to_neighbours: NDArray[np.int64]) -> None:
    """As `regional_maxima`, in place, in a flat frame that is lower than all."""
    reach = to_neighbours.max()
    top = np.zeros(heights.size, np.uint8)
    middle, here = top[reach:-reach], heights[reach:-reach]
    middle[...] = here > heights[0]
    for step in to_neighbours:
        there = heights[reach + step : heights.size - reach + step]
        for i in range(middle.size):  # Without a branch, so that many are done at a time.
            middle[i] &= np.uint8(here[i] >= there[i])
    # Those with equals beside them are left: none of a plateau is on top if one is not, and so on.
    unsigned = to_neighbours.astype(np.uint64)  # Quicker as indices; sums wrap around.
    plateau = np.empty(heights.size, np.uint32)
    count = np.uint32(0)
    for voxel in range(np.uint64(heights.size)):
        if not top[voxel] or labels[voxel] != 0:
            continue
        count += np.uint32(1)
        labels[voxel] = count
        plateau[0], size, place, maximum = voxel, 1, 0, True
        while maximum and place < size:
            for step in unsigned:
                near = plateau[place] + step
                if heights[near] == heights[voxel] and labels[near] == 0:
                    if not top[near]:
                        maximum = False
                        break
                    labels[near] = count
                    plateau[size] = near
                    size += 1
            place += 1
        if not maximum:
            count -= np.uint32(1)
            for place in range(size):
                top[plateau[place]], labels[plateau[place]] = 0, 0
