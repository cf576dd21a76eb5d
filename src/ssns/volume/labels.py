"""Whether a volume can be used as raw or as labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.space import AXES
from ssns.volume.volume import ArrayView, Volume

_RAW_TYPES = ("uint8", "uint16", "float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class NonNegative(ArrayView):
    """An array of signed integers that refuses negative ones as it reads them.

    Attributes:
        path: For the error.
    """

    path: str

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The labels of ``index``.

        Raises:
            UserError: One of them is negative.
        """
        data = self.source[index]
        if data.size and data.min() < 0:
            at = np.unravel_index(int(data.argmin()), data.shape)
            where = ", ".join(f"{axis} {part.start + int(i)}" for axis, part, i in zip(AXES, index, at, strict=True))
            raise UserError(
                f"{self.path}: labels are ids from 0 upwards, but {data.min()} is at {where}; "
                "write unknown voxels as an id of their own and name it as ignored"
            )
        return data


def check_raw(volume: Volume) -> None:
    """Refuse a volume that cannot be raw; reads nothing.

    Raises:
        UserError: It has channels, or voxels of a type other than uint8, uint16 or float.
    """
    if volume.channels is not None:
        raise UserError(
            f"{volume.path}: raw has 3 axes (z, y, x), this has 4 {volume.array.shape}; choose one channel and save it"
        )
    if volume.dtype.name not in _RAW_TYPES:
        raise UserError(f"{volume.path}: raw is uint8, uint16 or float, this is {volume.dtype}; convert it")


def check_labels(volume: Volume, raw: Volume) -> Volume:
    """Labels that lie in raw and are ids; reads nothing now, and checks signed ids whenever they are read.

    Args:
        volume: The labels.
        raw: The volume that they label; both origins are in one frame.

    Returns:
        ``volume``, which for signed types refuses negative ids as it reads them.

    Raises:
        UserError: Labels are not integers, have channels, or reach outside raw.
    """
    if volume.channels is not None:
        raise UserError(
            f"{volume.path}: labels have 3 axes (z, y, x), these have 4 {volume.array.shape}; save the ids alone"
        )
    if volume.dtype.kind not in "ui":
        raise UserError(
            f"{volume.path}: labels are whole ids (uint8 to uint64), these are {volume.dtype}; save them as integers"
        )
    inside, box = raw.box.shifted(raw.origin), volume.box.shifted(volume.origin)
    for axis, first, last, start, stop in zip(AXES, box.start, box.stop, inside.start, inside.stop, strict=True):
        if last > stop:
            raise UserError(
                f"labels reach {axis} {max(first, stop)}..{last} but raw ends at {axis} {stop}: say where they begin"
                f" (--labels-start, labels_start), or crop them ({volume.path} on {raw.path})"
            )
        if first < start:
            raise UserError(
                f"labels begin at {axis} {first} but raw begins at {axis} {start}: say where they begin"
                f" (--labels-start, labels_start), or crop them ({volume.path} on {raw.path})"
            )
    return replace(volume, array=NonNegative(volume.array, volume.path)) if volume.dtype.kind == "i" else volume
