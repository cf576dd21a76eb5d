"""Reading in and around a box: a part alone, beyond the faces of a volume, and again and again from memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.space import Box, Triple, triple
from ssns.volume.volume import ArrayView, Volume


def read_reflected(read: Callable[[Box], NDArray[Any]], box: Box, bounds: Box) -> NDArray[Any]:
    """Read ``box``, mirrored at the faces of ``bounds`` where it reaches beyond (the face itself is not doubled).

    Args:
        read: Gives the voxels of a box that lies in ``bounds``; called once.
        box: What is wanted, anywhere.
        bounds: What exists, at least one voxel.
    """
    indices = [_reflected(*axis) for axis in zip(box.start, box.stop, bounds.start, bounds.stop, strict=True)]
    needed = Box(triple(index.min() for index in indices), triple(index.max() + 1 for index in indices))
    data = read(needed)
    if needed == box:
        return data
    return data[np.ix_(*(index - start for index, start in zip(indices, needed.start, strict=True)))]


def _reflected(start: int, stop: int, low: int, high: int) -> NDArray[np.intp]:
    """The voxels of ``low..high`` seen at ``start..stop``, with mirrors at both ends."""
    period = max(1, 2 * (high - low - 1))
    position = (np.arange(start, stop) - low) % period
    return low + np.minimum(position, period - position)


@dataclass(frozen=True, eq=False)
class Cropped(ArrayView):
    """A box of an array, with all of its channels.

    Attributes:
        box: Inside it.
    """

    box: Box

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the box."""
        return (*self.source.shape[:-3], *self.box.shape)

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        *channels, z, y, x = index
        starts = zip((z, y, x), self.box.start, strict=True)
        return self.source[*channels, *(slice(part.start + start, part.stop + start) for part, start in starts)]


def loaded(volume: Volume, box: Box) -> Volume:
    """The same volume with the voxels of ``box`` in memory: what lies inside is read from there.

    Args:
        volume: Without channels.
        box: In the volume's own voxel indices.
    """
    return replace(volume, array=_Window(volume.array, box.start, volume.read(box)))


@dataclass(frozen=True, eq=False)
class _Window(ArrayView):
    """An array of which one part is in memory."""

    start: Triple
    part: NDArray[Any]

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``, from memory where all of them are there."""
        wanted = Box(triple(part.start for part in index), triple(part.stop for part in index))
        if Box.of_shape(self.part.shape, self.start).contains(wanted):
            return np.array(self.part[wanted.relative_to(self.start).slices])
        return self.source[index]
