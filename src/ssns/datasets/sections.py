"""Lazy arrays that reorder or repair sections, and read ids of any type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.volume import LazyArray
from ssns.volume.volume import ArrayView

BLANK_SHARE = 0.25
"""A section of which at least this part is exactly 0 has been lost, or tiles of it."""

_NO_ID = np.uint64(2**63)
"""From here on upwards CREMI marks voxels without an id: background, outside, transparent."""


@dataclass(frozen=True, eq=False)
class Reversed(ArrayView):
    """The same sections of (z, y, x), last one first."""

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        z, *inside = index
        depth = self.shape[0]
        return self.source[(slice(depth - z.stop, depth - z.start), *inside)][::-1]


@dataclass(frozen=True, eq=False)
class Interpolated(ArrayView):
    """Raw with defective sections replaced by linear interpolation along z of the nearest sound ones.

    Sections of a run of n are at 1/(n+1), 2/(n+1), ... of the way; at the ends of the volume the one sound neighbour is
    repeated. Raw is uint8 (z, y, x).

    Attributes:
        defects: Sections to replace, not all of them.
    """

    defects: frozenset[int]

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        z, *inside = index
        data = np.array(self.source[index])
        for section in self.defects.intersection(range(z.start, z.stop)):
            data[section - z.start] = self._between(section, inside)
        return data

    def _between(self, section: int, inside: Sequence[slice]) -> NDArray[Any]:
        below = next((z for z in range(section, -1, -1) if z not in self.defects), None)
        above = next((z for z in range(section, self.shape[0]) if z not in self.defects), None)
        ends = [z for z in (below, above) if z is not None]
        sound = [self.source[(slice(z, z + 1), *inside)][0].astype(np.float32) for z in ends]
        mixed = sound[0]
        if below is not None and above is not None:
            share = (section - below) / (above - below)
            mixed = np.rint((1 - share) * sound[0] + share * sound[1])
        stored: NDArray[Any] = mixed.astype(self.dtype)
        return stored


@dataclass(frozen=True, eq=False)
class Ids(ArrayView):
    """Labels as unsigned ids of at most 32 bits, 0 where CREMI marks voxels without one.

    Attributes:
        path: For errors.
    """

    path: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned, as wide as the source's but for 64 bits, of which none need more than 32."""
        return np.dtype(f"u{min(self.source.dtype.itemsize, 4)}")

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The ids of ``index``.

        Raises:
            UserError: An id is negative, or does not fit into 32 bits.
        """
        data = self.source[index]
        if data.dtype.kind == "u" and data.dtype.itemsize == 8:
            data = np.where(data >= _NO_ID, data.dtype.type(0), data)
        low, high = int(data.min()), int(data.max())
        if low < 0 or high > np.iinfo(self.dtype).max:
            raise UserError(
                f"{self.path}: wanted ids from 0 to {np.iinfo(self.dtype).max}, got {low} to {high}: relabel"
            )
        return data.astype(self.dtype)


def blank_sections(raw: LazyArray) -> tuple[int, ...]:
    """Sections of which a quarter or more is exactly 0; reads all of them.

    Args:
        raw: Shape (z, y, x).
    """
    depth, height, width = raw.shape
    sections = (raw[(slice(z, z + 1), slice(0, height), slice(0, width))] for z in range(depth))
    return tuple(z for z, section in enumerate(sections) if np.mean(section == 0) >= BLANK_SHARE)
