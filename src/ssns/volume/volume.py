"""One lazy array with a voxel size and an origin, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ssns.errors import UserError
from ssns.space import Box, Triple, VoxelSize, triple
from ssns.volume.geometry import checked_origin, checked_voxel_size
from ssns.volume.indexing import basic_index

IN_MEMORY = "array in memory"
_READ_ERRORS = (OSError, ValueError, RuntimeError, SyntaxError, EOFError)  # of tifffile, Pillow, h5py and tensorstore


class LazyArray(Protocol):
    """An array on disk that reads only what is asked for, from any thread and, pickled, in any process."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent (z, y, x) or (c, z, y, x)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels, in any byte order."""

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index`` (one slice per axis, both ends given, inside the array) as a new array."""


@dataclass(frozen=True, eq=False)
class ArrayView:
    """An array made of another one as it is read: of the same extent and type, unless a subclass says otherwise.

    Attributes:
        source: The array.
    """

    source: LazyArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the array."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.source.dtype


@dataclass(frozen=True, eq=False)
class Volume:
    """A lazy array of voxels, their size, and where they lie.

    Attributes:
        array: Voxels (z, y, x), or (c, z, y, x) for affinities.
        path: As the user would write it, ``file:dataset`` where there is one; for messages.
        voxel_size_nm: Nanometres (z, y, x); None where neither the file nor the user says.
        origin: Voxels (z, y, x): position of this array's voxel 0 in the frame that volumes of one specimen share.
        attributes: What the array says of itself besides, such as the ``offsets`` of affinities.

    Raises:
        UserError: The array has neither 3 nor 4 axes, no voxels, or voxels that are not numbers.
    """

    array: LazyArray = field(repr=False)
    path: str
    voxel_size_nm: VoxelSize | None = None
    origin: Triple = (0, 0, 0)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.array.shape)
        if len(shape) not in (3, 4):
            raise UserError(
                f"{self.path} has {len(shape)} axes {shape}: wanted 3 (z, y, x), or 4 (c, z, y, x) for affinities; "
                "a single section is a volume as a folder with one page"
            )
        if 0 in shape:
            raise UserError(f"{self.path} holds no voxels: its shape is {shape}")
        if self.array.dtype.kind not in "buif":
            raise UserError(f"{self.path} holds {self.array.dtype}: wanted integers or floating-point numbers")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels as they are read: native byte order."""
        return self.array.dtype.newbyteorder("=")

    @property
    def shape(self) -> Triple:
        """Extent in voxels (z, y, x), without channels."""
        return triple(self.array.shape[-3:])

    @property
    def channels(self) -> int | None:
        """Number of channels; None for a volume of three axes."""
        return int(self.array.shape[0]) if len(self.array.shape) == 4 else None

    @property
    def box(self) -> Box:
        """All of this volume, in its own voxel indices."""
        return Box.of_shape(self.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """All voxels, for ``np.asarray(volume)``; they are always read anew."""
        if copy is False:
            raise ValueError(f"{self.path} is on disk: its voxels cannot be had without a copy")
        return self.read().astype(self.dtype if dtype is None else dtype, copy=False)

    def __getitem__(self, index: Any, /) -> Any:
        """The voxels of a NumPy index of integers, slices and an ellipsis, such as ``raw[10]`` or ``raw[:5, 100:200]``.

        The box around them is read, and no more; steps are taken in memory.

        Raises:
            UserError: The index is of another kind, it reaches outside, or the file cannot be read.
        """
        wanted, taken = basic_index(index, self.array.shape)
        if any(part.start == part.stop for part in wanted):
            nothing = np.empty([part.stop - part.start for part in wanted], self.dtype)
            return nothing[taken]
        return self._read(
            wanted, Box(triple(part.start for part in wanted[-3:]), triple(part.stop for part in wanted[-3:]))
        )[taken]

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """The voxels of a box, as a new array.

        Args:
            box: In this array's own voxel indices (the origin plays no part). None: everything.

        Returns:
            Shape (z, y, x), or (c, z, y, x) with all channels, C-contiguous, native byte order.

        Raises:
            UserError: The box reaches outside, or the file cannot be read.
        """
        box = self.box if box is None else box
        if not self.box.contains(box):
            raise UserError(f"the box {box} reaches outside {self.path}, which holds {self.box}")
        return self._read(box.slices if self.channels is None else (slice(0, self.channels), *box.slices), box)

    def _read(self, index: tuple[slice, ...], box: Box) -> NDArray[Any]:
        """The voxels of ``index``, whose last three parts are ``box``."""
        try:
            data = self.array[index]
        except UserError:
            raise
        except _READ_ERRORS as error:
            raise UserError(
                f"{self.path}: {box} cannot be read ({error}); the file may be truncated or damaged: copy it again"
            ) from error
        return np.ascontiguousarray(data, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class ArrayInMemory:
    """An array in memory, read by copying.

    Attributes:
        source: The array itself.
    """

    source: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the array."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.source.dtype

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """A copy of the voxels of ``index``."""
        return np.array(self.source[index])


def from_array(
    array: NDArray[Any],
    *,
    voxel_size_nm: VoxelSize | None = None,
    origin: Triple = (0, 0, 0),
    attributes: Mapping[str, Any] | None = None,
) -> Volume:
    """A volume of an array in memory.

    Args:
        array: Shape (z, y, x) or (c, z, y, x); not copied until it is read.
        voxel_size_nm: Nanometres (z, y, x).
        origin: Position of voxel 0 in the shared frame, voxels (z, y, x).
        attributes: Such as the ``offsets`` of affinities.
    """
    return Volume(
        ArrayInMemory(np.asarray(array)),
        IN_MEMORY,
        checked_voxel_size(voxel_size_nm),
        checked_origin(origin),
        dict(attributes or {}),
    )
