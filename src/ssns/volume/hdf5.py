"""Datasets of HDF5 files, with the names and attributes of CREMI and of PyTorch Connectomics."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.files import replacing
from ssns.space import Box
from ssns.volume.datasets import Role, choose_dataset
from ssns.volume.geometry import geometry_of_attributes
from ssns.volume.volume import Volume

ATTRIBUTES_KEY = "ssns"
"""Attribute of a dataset, JSON, under which this package keeps what it says of itself."""

_CHUNK = (16, 128, 128)


@dataclass(frozen=True, eq=False)
class Hdf5Array:
    """A dataset of a file that is opened for each read.

    An open handle would be shared by forked processes, which HDF5 does not bear, and could not be pickled; opening
    takes less time than decoding one chunk.

    Attributes:
        file: The file.
        dataset: Name in it.
        shape: Extent of the dataset.
        dtype: Type of its voxels.
    """

    file: Path
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        with h5py.File(self.file, "r") as file:
            return np.asarray(file[self.dataset][index])


def open_hdf5(file: Path, *, dataset: str | None, role: Role) -> Volume:
    """Open one dataset of an HDF5 file; reads names, shapes and attributes only.

    Args:
        file: An existing file.
        dataset: Its name; None: found by convention.
        role: What the volume is to be used as, where convention asks.

    Raises:
        UserError: The file is damaged, or has no such dataset.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            shapes[name] = node.shape

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(note)
            if dataset is not None:  # a visit of all names leaves links out
                note(dataset.strip("/"), opened.get(dataset.strip("/")))
            name = choose_dataset(shapes, str(file), wanted=dataset, role=role)
            found = opened[name]
            array = Hdf5Array(file, name, found.shape, found.dtype)
            attributes = {key: _plain(value) for key, value in found.attrs.items()}
    except OSError as error:
        raise UserError(f"{file} cannot be opened as HDF5 ({error}); if it is truncated, copy it again") from error
    path = f"{file}:{name}"
    voxel_size_nm, origin = geometry_of_attributes(attributes, path)
    return Volume(array, path, voxel_size_nm, origin, json.loads(attributes.get(ATTRIBUTES_KEY, "{}")))


def write_hdf5(
    file: Path, plan: Volume, slabs: Iterable[tuple[Box, NDArray[Any]]], *, attributes: Mapping[str, Any] | None = None
) -> None:
    """Write a volume as it comes, with gzip, for programs that read HDF5 and not Zarr.

    The dataset is ``main``, with ``resolution`` and ``offset`` in nanometres (z, y, x), as CREMI has them.

    Args:
        file: What is there is replaced once the new file is complete; its folder is made.
        plan: Shape, type, voxel size and origin; its voxels play no part.
        slabs: Boxes in the volume's own voxel indices, which cover it, and their voxels.
        attributes: Kept with the dataset, as JSON.

    Raises:
        UserError: The file cannot be written. Nothing of it stays, whatever else ``slabs`` raises.
    """
    try:
        with replacing(file) as partial:
            _write_main(partial, plan, slabs, attributes or {})
    except (OSError, RuntimeError) as error:  # of the flush that ends it
        raise UserError(f"{file} cannot be written ({error}): make room, or mend that, and run again") from error


def _write_main(
    file: Path, plan: Volume, slabs: Iterable[tuple[Box, NDArray[Any]]], attributes: Mapping[str, Any]
) -> None:
    shape = plan.array.shape
    with h5py.File(file, "w") as opened:
        chunks = tuple(map(min, _CHUNK, shape))
        dataset = opened.create_dataset("main", shape, plan.dtype, chunks=chunks, compression=1, shuffle=True)
        if plan.voxel_size_nm is not None:
            dataset.attrs["resolution"] = plan.voxel_size_nm
            dataset.attrs["offset"] = [n * o for n, o in zip(plan.voxel_size_nm, plan.origin, strict=True)]
        dataset.attrs[ATTRIBUTES_KEY] = json.dumps(dict(attributes))
        for box, data in slabs:
            dataset[box.slices] = data


def _plain(value: Any) -> Any:
    """An attribute as Python values: HDF5 hands text out as bytes or as objects in arrays."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value
