"""Datasets of HDF5 files, with the names and attributes of CREMI and of PyTorch Connectomics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.volume.datasets import Role, choose_dataset
from ssns.volume.geometry import geometry_of_attributes
from ssns.volume.volume import Volume


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
            name = choose_dataset(shapes, str(file), wanted=dataset, role=role)
            found = opened[name]
            array = Hdf5Array(file, name, found.shape, found.dtype)
            attributes = {key: _plain(value) for key, value in found.attrs.items()}
    except OSError as error:
        raise UserError(f"{file} cannot be opened as HDF5 ({error}); if it is truncated, copy it again") from error
    path = f"{file}:{name}"
    voxel_size_nm, origin = geometry_of_attributes(attributes, path)
    return Volume(array, path, voxel_size_nm, origin)


def _plain(value: Any) -> Any:
    """An attribute as Python values: HDF5 hands text out as bytes or as objects in arrays."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value
