"""Axes z, y, x; boxes of voxels and the arithmetic of halos.

Everything here is in voxels, half-open: a box from 2 to 5 holds the voxels 2, 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import cast

AXES = ("z", "y", "x")

Triple = tuple[int, int, int]
"""Whole voxels along z, y, x."""

VoxelSize = tuple[float, float, float]
"""Nanometres along z, y, x."""


def triple(values: Iterable[int]) -> Triple:
    """Three integers as a tuple, whatever integer type they came in."""
    z, y, x = (int(value) for value in values)
    return z, y, x


def ceil_to_multiple(size: Triple, of: Triple) -> Triple:
    """The smallest multiples of ``of`` that are at least ``size``, axis by axis."""
    return triple(-(-length // step) * step for length, step in zip(size, of, strict=True))


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels.

    Attributes:
        start: First voxel (z, y, x).
        stop: One past the last voxel (z, y, x); a box with ``stop <= start`` along any axis is empty.
    """

    start: Triple
    stop: Triple

    @classmethod
    def of_shape(cls, shape: Iterable[int], start: Triple = (0, 0, 0)) -> Box:
        """The box of ``shape`` (z, y, x) that begins at ``start``."""
        size = triple(shape)
        return cls(start, triple(a + n for a, n in zip(start, size, strict=True)))

    @property
    def shape(self) -> Triple:
        """Extent in voxels (z, y, x), never negative."""
        return triple(max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of this box in an array whose voxel 0 is the origin."""
        return cast(
            "tuple[slice, slice, slice]", tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        )

    def shifted(self, by: Triple) -> Box:
        """This box moved by ``by`` voxels."""
        return Box(
            triple(a + d for a, d in zip(self.start, by, strict=True)),
            triple(b + d for b, d in zip(self.stop, by, strict=True)),
        )

    def relative_to(self, origin: Triple) -> Box:
        """This box in the frame whose voxel 0 is ``origin``."""
        return self.shifted(triple(-value for value in origin))

    def grown(self, halo: Triple) -> Box:
        """This box with ``halo`` voxels more on both sides of each axis (fewer where negative)."""
        return Box(
            triple(a - h for a, h in zip(self.start, halo, strict=True)),
            triple(b + h for b, h in zip(self.stop, halo, strict=True)),
        )

    def intersection(self, other: Box) -> Box:
        """The voxels in both boxes (possibly none)."""
        start = triple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = triple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, triple(max(a, b) for a, b in zip(start, stop, strict=True)))

    def overlaps(self, other: Box) -> bool:
        """Whether any voxel is in both."""
        return self.intersection(other).size > 0

    def contains(self, other: Box) -> bool:
        """Whether every voxel of ``other`` is in this box."""
        return self.intersection(other).size == other.size

    def without(self, other: Box) -> list[Box]:
        """Boxes that hold each voxel of this one which is not in the other, once."""
        common, rest, parts = self.intersection(other), self, []
        if not common.size:
            return [self] if self.size else []
        for axis in range(3):
            parts += [rest._along(axis, rest.start[axis], common.start[axis])]
            parts += [rest._along(axis, common.stop[axis], rest.stop[axis])]
            rest = rest._along(axis, common.start[axis], common.stop[axis])
        return [part for part in parts if part.size]

    def _along(self, axis: int, start: int, stop: int) -> Box:
        """This box with another range along an axis."""
        ranges = list(zip(self.start, self.stop, strict=True))
        ranges[axis] = (start, stop)
        return Box(triple(begin for begin, _ in ranges), triple(end for _, end in ranges))

    def bounding(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            triple(min(a, b) for a, b in zip(self.start, other.start, strict=True)),
            triple(max(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def __str__(self) -> str:
        """Ranges per axis, as errors show them: ``z 0..5, y 0..1024, x 0..1024``."""
        parts = zip(AXES, self.start, self.stop, strict=True)
        return ", ".join(f"{axis} {start}..{stop}" for axis, start, stop in parts)


def inner(shape: Iterable[int], lost: Triple) -> tuple[slice, slice, slice]:
    """The index of what is left of an array of ``shape`` (z, y, x) without ``lost`` voxels at each side."""
    return Box.of_shape(shape).grown(triple(-n for n in lost)).slices


def cover(bounds: Box, shape: Triple) -> list[Box]:
    """Boxes of ``shape`` that cover ``bounds`` once, in z, y, x order; those at the far faces are cut.

    Args:
        bounds: What to cover.
        shape: Largest shape of a part (z, y, x), each at least 1.
    """
    starts = (range(a, b, step) for a, b, step in zip(bounds.start, bounds.stop, shape, strict=True))
    return [Box.of_shape(shape, triple(start)).intersection(bounds) for start in product(*starts)]
