"""Tiles: which raw each call of the network sees, what is kept of its output, and with which weight.

Tiles stand on a product grid in the frame of the volume, at multiples of the network's stride. The grid follows from
the box to predict alone, so that it does not matter into how many blocks the work is cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from operator import itemgetter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.networks.extents import Extents, fitting
from ssns.space import AXES, Box, Triple, triple

Profile = NDArray[np.float32]
"""Weights along one axis."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One call of the network.

    Attributes:
        read: Its input, in the frame of the volume; it may reach beyond the volume.
        keep: The part of its output that counts.
        profiles: Weights of that part along z, y, x; their product weighs a voxel.
        floor: Added to the product.
    """

    read: Box
    keep: Box
    profiles: tuple[Profile, Profile, Profile]
    floor: float

    def weight(self, box: Box) -> NDArray[np.float32]:
        """Weights (z, y, x) of the voxels of ``box``, which lies in ``keep``."""
        z, y, x = (
            profile[part] for profile, part in zip(self.profiles, box.relative_to(self.keep.start).slices, strict=True)
        )
        weight: NDArray[np.float32] = z[:, None, None] * y[:, None] * x + np.float32(self.floor)
        return weight


@dataclass(frozen=True)
class AxisTiling:
    """The tiles along one axis.

    Attributes:
        starts: First input voxel of each tile, ascending.
        extent: Input voxels of each tile.
        keeps: Start and stop of what is kept of the output of each tile, both ascending.
        profiles: Weights of these voxels, for each tile.
    """

    starts: tuple[int, ...]
    extent: int
    keeps: tuple[tuple[int, int], ...]
    profiles: tuple[Profile, ...]

    def touching(self, start: int, stop: int) -> range:
        """Indices of the tiles that keep voxels of ``start..stop``."""
        first = bisect_right(self.keeps, start, key=itemgetter(1))
        return range(first, max(first, bisect_left(self.keeps, stop, key=itemgetter(0))))


@dataclass(frozen=True)
class Tiling:
    """The tiles of a box.

    Attributes:
        axes: Along z, y, x.
        bounds: Where there is raw to be seen; it is reflected beyond.
        floor: Added to all weights.
    """

    axes: tuple[AxisTiling, AxisTiling, AxisTiling]
    bounds: Box
    floor: float = 0.0

    @property
    def shape(self) -> Triple:
        """Input extent of every tile."""
        return triple(axis.extent for axis in self.axes)

    def count(self, box: Box) -> int:
        """Number of tiles that keep voxels of ``box``."""
        return prod(map(len, self._touching(box)))

    def tiles(self, box: Box) -> Iterator[Tile]:
        """The tiles that keep voxels of ``box``, in z, y, x order."""
        for indices in product(*self._touching(box)):
            chosen = list(zip(self.axes, indices, strict=True))
            starts, stops = zip(*(axis.keeps[index] for axis, index in chosen), strict=True)
            profiles = tuple(axis.profiles[index] for axis, index in chosen)
            yield Tile(
                read=Box.of_shape(self.shape, triple(axis.starts[index] for axis, index in chosen)),
                keep=Box(triple(starts), triple(stops)),
                profiles=cast("tuple[Profile, Profile, Profile]", profiles),
                floor=self.floor,
            )

    def _touching(self, box: Box) -> list[range]:
        return [axis.touching(a, b) for axis, a, b in zip(self.axes, box.start, box.stop, strict=True)]


@dataclass(frozen=True)
class Overlap:
    """How neighbouring tiles share voxels.

    Attributes:
        margin: Voxels at each inner face of a tile whose output is lost or not used (z, y, x).
        outer: The same at the ends of the volume, where they are reflections (z, y, x); at most ``margin``.
        blend: Further voxels over which a tile gives way to its neighbour (z, y, x).
        extents: Which tiles the network takes; they start at multiples of its stride.
    """

    margin: Triple
    outer: Triple
    blend: Triple
    extents: Extents

    @property
    def shared(self) -> Triple:
        """Input voxels that neighbours have in common, at least."""
        return triple(2 * margin + blend for margin, blend in zip(self.margin, self.blend, strict=True))

    def context(self, box: Box, bounds: Box) -> Box:
        """All that tiles of ``box`` see, in a volume of ``bounds``."""
        seen = box.grown(self.margin).intersection(bounds.grown(self.outer))
        start = triple(_down(a, stride) for a, stride in zip(seen.start, self.extents.stride, strict=True))
        return Box.of_shape(self.extents.at_least(b - a for a, b in zip(start, seen.stop, strict=True)), start)


def overlapping_tiling(box: Box, bounds: Box, tile: Triple, overlap: Overlap) -> Tiling:
    """Tiles that cover ``box``, each giving way to the next over a smooth ramp.

    Args:
        box: What to predict.
        bounds: The volume around it.
        tile: Input extent, made smaller where the box and its context are.
        overlap: What neighbours share.

    Raises:
        UserError: The network cannot take ``tile``, or it is too small for the overlap.
    """
    axes = []
    context = overlap.context(box, bounds)
    extents = triple(map(min, tile, context.shape))
    overlap.extents.check("tile", extents)
    for axis, name in enumerate(AXES):
        margin, blend, stride = overlap.margin[axis], overlap.blend[axis], overlap.extents.stride[axis]
        extent = extents[axis]
        first, last = context.start[axis], context.stop[axis] - extent
        step = _down(extent - overlap.shared[axis], stride)
        if last > first and step < stride:
            enough = fitting(overlap.shared[axis] + stride, overlap.extents.smallest[axis], stride)
            raise UserError(
                f"tile: {extent} along {name} leaves no step beside {margin} unused voxels at both ends and {blend} "
                f"blended ones: take at least {enough}, or a smaller halo"
            )
        starts = (*range(first, last, max(step, 1)), last)
        # the first and the last tile have no neighbour to give way to at the ends of the box
        lows = (box.start[axis], *(start + margin for start in starts[1:]))
        highs = (*(start + extent - margin for start in starts[:-1]), box.stop[axis])
        keeps = tuple(zip(lows, highs, strict=True))
        profiles = [np.ones(high - low, np.float32) for low, high in keeps]
        for before, after in pairwise(profiles):
            before *= _rise(len(before), blend)[::-1]
            after *= _rise(len(after), blend)
        axes.append(AxisTiling(starts, extent, keeps, tuple(profiles)))
    z, y, x = axes
    return Tiling((z, y, x), bounds)


def choose_tile(box: Box, bounds: Box, overlap: Overlap, voxels: int) -> Triple:
    """The tile that computes the fewest voxels in all; the largest of several that do.

    Args:
        box: What to predict.
        bounds: The volume around it.
        overlap: What neighbours share.
        voxels: Largest size of a tile; where none is so small, the smallest possible tile is taken.
    """
    whole = overlap.context(box, bounds).shape
    possible = overlap.extents
    choices = [_extents(*axis) for axis in zip(whole, overlap.shared, possible.smallest, possible.stride, strict=True)]
    z, y, x = (np.array([extent for extent, _ in axis], np.float64) for axis in choices)
    n_z, n_y, n_x = (np.array([count for _, count in axis], np.float64) for axis in choices)
    size = z[:, None, None] * y[:, None] * x
    computed = np.where(size <= voxels, size * (n_z[:, None, None] * n_y[:, None] * n_x), np.inf)
    if not np.isfinite(computed).any():
        return triple(axis[-1][0] for axis in choices)
    best = np.unravel_index(computed.argmin(), computed.shape)
    return triple(axis[index][0] for axis, index in zip(choices, best, strict=True))


def _extents(length: int, shared: int, smallest: int, stride: int) -> list[tuple[int, int]]:
    """Extents of a tile worth trying along an axis, the largest first, and how many such tiles cover ``length``."""
    counts = {length: 1}
    extent = fitting(shared + stride, smallest, stride)
    while extent < length:
        count = 1 + -((extent - length) // _down(extent - shared, stride))
        needed = -(-(length + (count - 1) * shared) // count)
        fitted = fitting(needed, smallest, stride)  # no larger than that many tiles need
        counts[fitted] = 1 + -((fitted - length) // _down(fitted - shared, stride))
        extent = max(extent + stride, smallest + _down(extent * 9 // 8 - smallest, stride))
    return sorted(counts.items(), reverse=True)


def _rise(extent: int, blend: int) -> Profile:
    """From nearly nothing to one over ``blend`` voxels, as the square of a sine, and one from there on."""
    depth = (np.arange(extent) + 0.5) / max(blend, 0.5)
    profile: Profile = (np.sin(np.pi / 2 * np.minimum(depth, 1)) ** 2).astype(np.float32)
    return profile


def _down(value: int, step: int) -> int:
    return value // step * step
