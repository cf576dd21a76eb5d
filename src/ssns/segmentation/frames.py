"""Arrays in a frame: kernels walk them as one flat line, and need not ask whether a neighbour is outside."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def framed(values: NDArray[Any], outside: Any) -> NDArray[Any]:
    """A copy with one more voxel on each side, of the value ``outside``."""
    result = np.empty([size + 2 for size in values.shape], values.dtype)
    for axis in range(values.ndim):
        result[(slice(None),) * axis + (slice(None, None, result.shape[axis] - 1),)] = outside
    unframed(result)[...] = values
    return result


def unframed(values: NDArray[Any]) -> NDArray[Any]:
    """What is in the frame, a view."""
    return values[(slice(1, -1),) * values.ndim]


def steps(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """How far the neighbours of a voxel along the axes are from it in the flat line, ascending.

    Args:
        shape: Extent, the frame included.
    """
    strides = np.cumprod([1, *shape[:0:-1]])
    return np.sort(np.concatenate([-strides, strides]))
