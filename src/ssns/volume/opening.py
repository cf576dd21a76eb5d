"""Open a volume of any format by its path, and tell whether one has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssns.errors import UserError, nearest
from ssns.space import VoxelSize, cover
from ssns.volume.datasets import Role
from ssns.volume.geometry import checked_origin, checked_voxel_size
from ssns.volume.hdf5 import open_hdf5
from ssns.volume.pages import open_pages
from ssns.volume.tiff import open_tiff
from ssns.volume.volume import Volume
from ssns.volume.zarr import is_zarr, open_zarr

_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
_READ_AT_ONCE = 64 * 2**20


def open_volume(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    role: Role = "raw",
    voxel_size_nm: VoxelSize | None = None,
    origin: Sequence[int] | None = None,
    rgb_ids: bool = False,
) -> Volume:
    """Open a volume without reading its voxels.

    Args:
        path: A TIFF stack, a folder of pages (PNG, TIFF, JPEG), an HDF5 file or a Zarr folder; ``file.h5:dataset``
            names an array inside the last two.
        dataset: The same name as an argument.
        role: ``raw`` or ``labels``: which one of a CREMI file to take where no dataset is named.
        voxel_size_nm: Nanometres (z, y, x); wins over what the file says.
        origin: Position of voxel 0 in the frame that volumes of one specimen share, voxels (z, y, x); wins over what
            the file says.
        rgb_ids: The pages are ids coded as colours, as VAST exports them.

    Returns:
        The volume, shape (z, y, x), or (c, z, y, x) where a file holds channels.

    Raises:
        UserError: Nothing is there, it is damaged, or it is no volume.

    Example:
        >>> volume = open_volume("cremi_A.h5", role="labels")  # doctest: +SKIP
        >>> volume.path, volume.voxel_size_nm  # doctest: +SKIP
        ('cremi_A.h5:volumes/labels/neuron_ids', (40.0, 4.0, 4.0))
    """
    file, named = split_dataset(path)
    if named is not None and dataset is not None and named != dataset:
        raise UserError(f"{path} names the dataset {named}, and dataset is {dataset}: give one of them")
    try:
        volume = _open(file, dataset if dataset is not None else named, role, rgb_ids)
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error}): check the path and who may read it") from error
    changes: dict[str, Any] = {}
    if voxel_size_nm is not None:
        changes["voxel_size_nm"] = checked_voxel_size(voxel_size_nm)
    if origin is not None:
        changes["origin"] = checked_origin(origin)
    return replace(volume, **changes)


def split_dataset(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """File and dataset of ``file:dataset``; a path that exists as it is has none."""
    whole = Path(path).expanduser()
    before, colon, after = str(whole).rpartition(":")
    if not colon or not before or not after or whole.exists():
        return whole, None
    named = Path(before).suffix.lower() in (*_HDF5, *_TIFF, ".zarr") or Path(before).exists()
    return (Path(before), after) if named else (whole, None)


def fingerprint(volume: Volume | str | os.PathLike[str], *, hash_up_to: float = 0) -> dict[str, Any]:
    """What tells whether a volume has changed, as values that JSON keeps.

    Args:
        volume: An open volume, or a path for ``open_volume``.
        hash_up_to: Bytes of voxels up to which all of them are read and their hash is added, which is the same for all
            formats; 0: never, infinity: always.

    Returns:
        ``files``, ``bytes``, ``modified_ns`` (the newest change of any file), ``shape``, ``dtype``, and perhaps
        ``blake2b``.

    Raises:
        UserError: There is no such volume, or it is one in memory.
    """
    opened = volume if isinstance(volume, Volume) else open_volume(volume)
    file, dataset = split_dataset(opened.path)
    if not file.exists():
        raise UserError(f"{opened.path} is no file: write it with write_volume to compare it later")
    found = [entry.stat() for entry in _files(file / dataset if file.is_dir() and dataset else file)]
    stated: dict[str, Any] = {
        "files": len(found),
        "bytes": sum(stat.st_size for stat in found),
        "modified_ns": max(stat.st_mtime_ns for stat in found),
        "shape": [int(n) for n in opened.array.shape],
        "dtype": opened.dtype.name,
    }
    size = opened.box.size * (opened.channels or 1) * opened.dtype.itemsize
    return {**stated, "blake2b": _hash(opened)} if size <= hash_up_to else stated


def _open(file: Path, dataset: str | None, role: Role, rgb_ids: bool) -> Volume:
    if not file.exists():
        raise UserError(_missing(file))
    suffix = file.suffix.lower()
    zarr = file.is_dir() and (is_zarr(file) or suffix == ".zarr")
    if not zarr and not file.is_dir() and suffix not in (*_TIFF, *_HDF5):
        raise UserError(
            f"{file}: volumes are {', '.join((*_TIFF, *_HDF5))} files, .zarr folders and folders of pages, "
            f"not {suffix or 'files without a suffix'}; convert it"
        )
    pages = not zarr and suffix not in _HDF5
    if pages and dataset is not None:
        raise UserError(f"{file} has no datasets, but {dataset} is named: only HDF5 and Zarr hold several arrays")
    if not pages and rgb_ids:
        raise UserError(f"rgb_ids is for TIFF stacks and folders of pages, not for {file}: leave it out")
    if zarr:
        return open_zarr(file, dataset=dataset, role=role)
    if file.is_dir():
        return open_pages(file, rgb_ids=rgb_ids)
    return open_hdf5(file, dataset=dataset, role=role) if suffix in _HDF5 else open_tiff(file, rgb_ids=rgb_ids)


def _missing(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"{file} does not exist: there is no folder {folder}; check the path"
    if (unfinished := file.with_name(f"{file.name}.partial")).exists():
        return f"{file} was never finished: {unfinished.name} is what has been written; run that stage again"
    return f"{file} does not exist{nearest(file.name, (entry.name for entry in folder.iterdir()))}; check the path"


def _files(path: Path) -> Iterator[os.DirEntry[str] | Path]:
    """Every file at or below a path, with cheap access to its size."""
    if path.is_file():
        yield path
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path))
            else:
                yield entry


def _hash(volume: Volume) -> str:
    """BLAKE2b of the voxels, section by section (all channels of one, then the next)."""
    digest = hashlib.blake2b(digest_size=32)
    section = volume.box.size // volume.shape[0] * (volume.channels or 1) * volume.dtype.itemsize
    depth = max(1, _READ_AT_ONCE // section)
    for slab in cover(volume.box, (depth, *volume.shape[1:])):
        data = volume.read(slab)
        for z in range(slab.shape[0]):
            digest.update(data[..., z, :, :].tobytes())
    return digest.hexdigest()
