"""Write volumes as OME-Zarr 0.5, beside the old ones until they are complete.

1. ``create_volume`` makes ``<path>.partial``: a group with one resolution, ``0``.
2. Blocks are written to it, in any order, from any thread or process (a pickled writer opens it again).
3. ``close`` renames it over ``path``. What ends before that, by an exception, a full disk or a kill, leaves the old
   ``path`` as it was, and the partial one to be resumed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ssns.errors import UserError
from ssns.space import Box, Triple, VoxelSize, cover, triple
from ssns.volume.geometry import checked_origin, checked_voxel_size
from ssns.volume.ome import StorageLayout, create_ome_zarr
from ssns.volume.volume import ArrayInMemory, LazyArray, Volume
from ssns.volume.zarr import ZarrArray, is_zarr, open_zarr

_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True, eq=False)
class VolumeWriter:
    """A volume being written, as a context manager that completes it unless an exception leaves the block.

    Write from many threads or processes at once; only one of them closes.

    Attributes:
        path: Where the volume will be.
        partial: The volume so far, in ``<path>.partial``; unwritten voxels are 0.
        chunks: Voxels (z, y, x) of the cells that are stored apart (shards where there are some). Blocks whose edges
            are multiples of it never wait for one another; others are written correctly too, but slower.
        resumed: Whether the volume holds what an earlier writer has left.
    """

    path: Path
    partial: Volume
    chunks: Triple
    resumed: bool

    @property
    def box(self) -> Box:
        """All of the volume, in its own voxel indices."""
        return self.partial.box

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Store the voxels of a box; they are on disk when this returns.

        Args:
            box: In the volume's own voxel indices.
            data: Shape of the box, with the channels before it if there are some, of a type that the volume's holds.

        Raises:
            UserError: The data do not fit, or the disk is full.
        """
        leading = () if self.partial.channels is None else (self.partial.channels,)
        if not self.box.contains(box) or data.shape != (*leading, *box.shape):
            raise UserError(
                f"data of shape {data.shape} for the box {box} do not fit into {self.path}, which is {self.box}"
                + (f" with {leading[0]} channels" if leading else "")
            )
        if not np.can_cast(data.dtype, self.partial.dtype, "safe"):
            raise UserError(f"{self.path} holds {self.partial.dtype}, but the data are {data.dtype}: convert them")
        array = self.partial.array
        assert isinstance(array, ZarrArray)  # create_volume has made it
        try:
            index = (*(slice(0, n) for n in leading), *box.slices)
            array.write(index, data.astype(self.partial.dtype, copy=False))
        except (ValueError, OSError) as error:
            raise _not_written(self.path, error) from error

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """The voxels written so far, 0 elsewhere; see ``Volume.read``."""
        return self.partial.read(box)

    def close(self) -> None:
        """Put the volume in the place of what is at ``path``, if anything.

        Raises:
            UserError: The folder cannot be changed; old and new are both kept.
        """
        old = _replaced(self.path)
        try:
            if self.path.exists():
                self.path.rename(old)
            _partial(self.path).rename(self.path)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            _restore(self.path)
            raise _not_written(self.path, error) from error

    def __enter__(self) -> VolumeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


def create_volume(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    voxel_size_nm: VoxelSize | None = None,
    origin: Sequence[int] = (0, 0, 0),
    attributes: Mapping[str, Any] | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    resume: bool = False,
) -> VolumeWriter:
    """Begin an OME-Zarr 0.5 volume of zeros.

    Args:
        path: Ends in ``.zarr``; only another Zarr is ever replaced, and only on completion.
        shape: (z, y, x) or (c, z, y, x).
        dtype: Type of the voxels.
        voxel_size_nm: Nanometres (z, y, x).
        origin: Position of voxel 0 in the shared frame, voxels (z, y, x).
        attributes: Kept with the array, as JSON; such as the ``offsets`` of affinities.
        chunks: Voxels (z, y, x) that are compressed and read together; channels are always apart. None: chosen.
        shards: Voxels (z, y, x) of one file, multiples of ``chunks``. None: chosen for large arrays, else one file
            for each chunk.
        resume: Continue what an earlier writer has left, if it was to be the same volume; it keeps its chunks.

    Raises:
        UserError: The path cannot be written to, or what was left was to be another volume.
    """
    target = Path(path).expanduser().resolve()  # a link to another disk stays: what it points to is replaced
    if target.suffix != ".zarr" or (target.exists() and not is_zarr(target)):
        raise UserError(f"{path} cannot be written: volumes are written as .zarr, and replace nothing but a Zarr")
    plan = Volume(
        ArrayInMemory(np.broadcast_to(np.zeros((), dtype), tuple(shape))),
        str(target),
        checked_voxel_size(voxel_size_nm),
        checked_origin(origin),
        json.loads(json.dumps(dict(attributes or {}))),
    )
    layout = StorageLayout.of(shape, chunks, shards)
    partial = _partial(target)
    _restore(target)
    resumed = resume and is_zarr(partial)
    try:
        if not resumed:
            shutil.rmtree(partial, ignore_errors=True)
            create_ome_zarr(partial, plan, layout)
    except (ValueError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _not_written(target, error) from error
    found = open_zarr(partial, dataset=None, role="raw")
    for name in ("voxel_size_nm", "origin", "attributes", "dtype", "channels", "shape"):
        if getattr(found, name) != getattr(plan, name):
            raise UserError(
                f"{partial} cannot be resumed: its {name} is {getattr(found, name)}, wanted {getattr(plan, name)}; "
                "delete it, or write without resuming"
            )
    assert isinstance(found.array, ZarrArray)  # open_zarr opens nothing else
    writable = replace(found, array=found.array.writable())
    return VolumeWriter(target, writable, triple(found.array.write_chunks[-3:]), resumed)


def write_volume(
    path: str | os.PathLike[str],
    array: NDArray[Any] | LazyArray,
    *,
    voxel_size_nm: VoxelSize | None = None,
    origin: Sequence[int] = (0, 0, 0),
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole array as an OME-Zarr 0.5 volume, a layer of chunks at a time.

    Args:
        path: Ends in ``.zarr``; what is there is replaced once the new volume is complete.
        array: Shape (z, y, x) or (c, z, y, x).
        voxel_size_nm: Nanometres (z, y, x).
        origin: Position of voxel 0 in the shared frame, voxels (z, y, x).
        attributes: Kept with the array, as JSON.

    Raises:
        UserError: The path cannot be written to, or the disk is full; nothing of the new volume stays.
    """
    source = Volume(ArrayInMemory(array) if isinstance(array, np.ndarray) else array, str(path))
    writer = create_volume(
        path, source.array.shape, source.dtype, voxel_size_nm=voxel_size_nm, origin=origin, attributes=attributes
    )
    try:
        for layer in cover(source.box, (writer.chunks[0], *source.shape[1:])):
            writer.write(layer, source.read(layer))
    except BaseException:
        shutil.rmtree(_partial(writer.path), ignore_errors=True)
        raise
    writer.close()


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _replaced(path: Path) -> Path:
    return path.with_name(f"{path.name}.replaced")


def _restore(path: Path) -> None:
    """Undo or finish what a kill between the two renames of ``close`` has left."""
    if path.exists():
        shutil.rmtree(_replaced(path), ignore_errors=True)
    elif _replaced(path).exists():
        _replaced(path).rename(path)


def _not_written(path: Path, error: Exception) -> UserError:
    """The error for a failed write; tensorstore tells the number of the system's only in its message."""
    full = getattr(error, "errno", None) in _DISK_FULL or any(
        f"os_error_code='{code}'" in str(error) for code in _DISK_FULL
    )
    reason = "the disk is full or a limit on file sizes is reached: make room" if full else f"{error}: mend that"
    return UserError(f"{path} cannot be written, {reason}, and run again; what was there before is untouched")
