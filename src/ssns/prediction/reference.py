"""The tiling of the paper's code (reference 7.2, 7.3), for parity: small windows, many of them.

Its fixed sizes are generalised to any shape: windows stand at their stride, and the last one is aligned to the end.
"""

from __future__ import annotations

import numpy as np

from ssns.errors import UserError
from ssns.prediction.tiling import AxisTiling, Profile, Tiling
from ssns.space import Box, Triple

WINDOW = (18, 160, 160)
SIGMA = 0.2
"""Of the Gaussian, where -1 and 1 are the first and the last voxel of a window."""

FLOOR = 1e-6
"""Added to the Gaussian by the paper's code."""

THIN = 25
"""Sections of a volume for which the paper's code pads less and steps farther along z."""

VALID_OUTPUT = (25, 56, 56)
VALID_SHRINK = (14, 106, 106)


def reference_windows(shape: Triple) -> list[Box]:
    """The windows of a padded network over a volume: 1183 for 50 x 1024 x 1024.

    Args:
        shape: Extent of the volume (z, y, x).

    Returns:
        Boxes of 18 x 160 x 160 voxels in the frame of the volume, reaching into its reflection.
    """
    bounds = Box.of_shape(shape)
    return [tile.read for tile in reference_tiling(bounds, (0, 0, 0)).tiles(bounds)]


def reference_tiling(box: Box, shrink: Triple) -> Tiling:
    """The paper's tiles of ``box``, which is reflected at its own faces as if it were the volume.

    A padded network is blended with a Gaussian weight. Outputs of a valid one stand side by side; where the last is
    shifted inwards, it overwrites the others.

    Raises:
        UserError: The network shrinks otherwise than the two of the paper.
    """
    if shrink == VALID_SHRINK:
        axes = [_side_by_side(*axis) for axis in zip(box.start, box.stop, VALID_OUTPUT, shrink, strict=True)]
        floor = 0.0
    elif shrink == (0, 0, 0):
        thin = box.shape[0] <= THIN
        pad = (4, 48, 48) if thin else (14, 48, 48)
        stride = (15, 80, 80) if thin else (10, 80, 80)
        axes = [_blended(*axis) for axis in zip(box.start, box.stop, WINDOW, pad, stride, strict=True)]
        floor = FLOOR
    else:
        raise UserError(
            f"tiling: reference is defined for networks that lose no voxels or {VALID_SHRINK} at each side, "
            f'this one loses {shrink}: use tiling = "auto"'
        )
    z, y, x = axes
    return Tiling((z, y, x), box, floor)


def _blended(start: int, stop: int, extent: int, pad: int, stride: int) -> AxisTiling:
    starts = _starts(start - pad, stop + pad, extent, stride)
    profile: Profile = np.exp(-(np.linspace(-1, 1, extent) ** 2) / (2 * SIGMA**2)).astype(np.float32)
    return AxisTiling(starts, extent, tuple((first, first + extent) for first in starts), (profile,) * len(starts))


def _side_by_side(start: int, stop: int, extent: int, shrink: int) -> AxisTiling:
    starts = _starts(start, stop, extent, extent)
    ends = (*starts[1:], starts[-1] + extent)  # the later tile has the last word
    profiles = tuple(np.ones(end - first, np.float32) for first, end in zip(starts, ends, strict=True))
    keeps = tuple(zip(starts, ends, strict=True))
    return AxisTiling(tuple(first - shrink for first in starts), extent + 2 * shrink, keeps, profiles)


def _starts(start: int, stop: int, extent: int, stride: int) -> tuple[int, ...]:
    last = max(start, stop - extent)
    return (*range(start, last, stride), last)
