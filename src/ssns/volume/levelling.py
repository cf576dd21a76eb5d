"""Sections of one brightness and contrast: where they differ, they were cut, stained or imaged differently."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.space import Box
from ssns.volume.volume import Volume

WHOLE_SECTION = 1 << 22
"""Voxels of a section up to which all of it is looked at."""

WINDOWS, WINDOW = 4, 512
"""Of a larger one: so many squares along y and along x, each of so many voxels."""


def levelled(raw: Volume) -> Volume:
    """The same volume with each section at mean 0 and standard deviation 1, float32.

    What a section holds of the value 0 in an integer type is padding, and does not count; nor does NaN. A section that
    has one single intensity is 0. Sections are looked at when they are first read.

    Args:
        raw: Without channels.
    """
    return replace(raw, array=_Levelled(raw))


@dataclass(frozen=True, eq=False)
class _Levelled:
    """An array of levelled sections."""

    raw: Volume
    known: dict[int, tuple[np.float32, np.float32]] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent (z, y, x)."""
        return self.raw.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return np.dtype(np.float32)

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        voxels = self.raw.array[index].astype(np.float32)
        for section, z in zip(voxels, range(index[0].start, index[0].stop), strict=True):
            mean, deviation = self._level(z)
            section -= mean
            section /= deviation
        return voxels

    def _level(self, z: int) -> tuple[np.float32, np.float32]:
        """Mean and standard deviation of a section."""
        if z not in self.known:
            values = np.concatenate([self.raw.read(box).ravel() for box in self._windows(z)])
            counted = np.isfinite(values) if values.dtype.kind == "f" else values != 0
            values = values[counted] if counted.any() else np.zeros(1, values.dtype)
            deviation = np.float32(values.std(dtype=np.float64))
            self.known[z] = np.float32(values.mean(dtype=np.float64)), deviation if deviation > 0 else np.float32(1)
        return self.known[z]

    def _windows(self, z: int) -> list[Box]:
        """What of a section is looked at."""
        _, height, width = self.raw.shape
        if height * width <= WHOLE_SECTION:
            return [Box((z, 0, 0), (z + 1, height, width))]
        starts, sides = [], []
        for length in (height, width):
            sides.append(min(WINDOW, length))
            starts.append(np.unique(np.linspace(0, length - sides[-1], WINDOWS).astype(int)).tolist())
        return [Box.of_shape((1, sides[0], sides[1]), (z, y, x)) for y in starts[0] for x in starts[1]]
