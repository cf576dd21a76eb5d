"""Zarr arrays of version 2 and 3 and OME-Zarr 0.4 and 0.5 groups, through tensorstore.

tensorstore runs threads of its own, which do not survive a fork: start worker processes with ``spawn`` or
``forkserver``. A pickled array opens itself again in the process that receives it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.space import AXES, Triple, VoxelSize
from ssns.volume.datasets import Role, choose_dataset
from ssns.volume.geometry import geometry_of_attributes, nm_per_unit, origin_from_nm, voxel_size_or_none
from ssns.volume.volume import Volume

ATTRIBUTES_KEY = "ssns"
"""Attribute of an array under which this package keeps what it says of itself."""

_CACHE_BYTES = 128 * 2**20
LEVEL_DEPTH = 3
"""Groups above an array among which that of its OME-Zarr image is looked for."""

_AXES_BY_COUNT = {3: "zyx", 4: "czyx", 5: "tczyx"}


@cache
def storage_context() -> tensorstore.Context:
    """The cache and threads that all Zarr arrays of this process share.

    Few threads, since many worker processes read and write side by side.
    """
    return tensorstore.Context(
        {
            "cache_pool": {"total_bytes_limit": _CACHE_BYTES},
            "data_copy_concurrency": {"limit": 2},
            "file_io_concurrency": {"limit": 4},
        }
    )


def file_store(folder: Path) -> dict[str, str]:
    """Where the files of an array lie, as tensorstore wants to be told: absolutely, as it takes no ``..``."""
    return {"driver": "file", "path": f"{folder.resolve()}/"}


@dataclass(frozen=True, eq=False)
class ZarrArray:
    """An array that tensorstore reads.

    Attributes:
        store: Domain (z, y, x) or (c, z, y, x), from 0.
    """

    store: tensorstore.TensorStore

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the array."""
        return tuple(int(n) for n in self.store.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return np.dtype(self.store.dtype.numpy_dtype)

    @property
    def write_chunks(self) -> tuple[int, ...]:
        """Extent of what is stored apart: shards where there are some, else chunks."""
        return tuple(int(n or 1) for n in self.store.chunk_layout.write_chunk.shape or ())

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        return np.asarray(self.store[index].read(order="C").result())

    def writable(self) -> ZarrArray:
        """The same array, opened to be written too."""
        spec = self.store.spec()
        return ZarrArray(tensorstore.open(spec, context=storage_context(), open=True, read=True, write=True).result())

    def write(self, index: tuple[slice, ...], data: NDArray[Any]) -> None:
        """Store the voxels of ``index``; on disk on return. Only of a ``writable`` array."""
        self.store[index].write(data).result()


@dataclass(frozen=True, eq=False)
class _Node:
    """A group or an array of a hierarchy, as its metadata files describe it; ``shape`` is None for a group."""

    folder: Path
    version: int
    attributes: Mapping[str, Any]
    shape: tuple[int, ...] | None
    axes: Sequence[str] | None

    @property
    def multiscale(self) -> Mapping[str, Any] | None:
        """The image of an OME-Zarr 0.4 or 0.5 group."""
        images = self.attributes.get("ome", self.attributes).get("multiscales")
        return images[0] if images and self.shape is None else None


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def open_zarr(folder: Path, *, dataset: str | None, role: Role) -> Volume:
    """Open an array, or the full resolution of an OME-Zarr group; reads metadata only.

    Args:
        folder: An existing folder.
        dataset: Path of an array or OME-Zarr group inside; None: ``folder`` itself, or found by convention.
        role: What the volume is to be used as, where convention asks.

    Raises:
        UserError: There is no such array, or its metadata or axes are not understood.
    """
    root = _node(folder)
    if root is None:
        raise UserError(
            f"{folder} is no Zarr: it has neither zarr.json nor .zarray nor .zgroup; give the folder of one"
        )
    asked = _node(folder / dataset.strip("/")) if dataset is not None else root
    if asked is None or (asked.shape is None and asked.multiscale is None):
        shapes = dict(_arrays(root))
        dataset = choose_dataset(shapes, str(folder), wanted=dataset, role=role)
        asked = _node(folder / dataset)
        assert asked is not None  # _arrays has just read it
    path = str(folder) if dataset is None else f"{folder}:{dataset.strip('/')}"
    try:
        if asked.multiscale is not None:
            return _open_level(asked, asked.multiscale["datasets"][0], path)
        for parent in list(asked.folder.absolute().parents)[:LEVEL_DEPTH]:
            group = _node(parent)
            if group is None or group.multiscale is None:
                continue
            for level in group.multiscale["datasets"]:
                if (parent / level["path"]).resolve() == asked.folder.resolve():
                    placed, alone = _open_level(group, level, path), _open_array(asked, path)
                    return alone if placed.voxel_size_nm is None and alone.voxel_size_nm is not None else placed
        return _open_array(asked, path)
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its metadata are not those of OME-Zarr 0.4 or 0.5 ({error!r})") from error


def _open_array(node: _Node, path: str) -> Volume:
    axes = _known_axes(node.axes) or _known_axes(node.attributes.get("axis_names")) or _default_axes(node, path)
    spatial = [axis for axis in axes if axis in AXES]
    attributes = {**node.attributes}
    for name in ("voxel_size", "resolution", "offset"):
        values = attributes.get(name)
        if isinstance(values, list) and len(values) == len(spatial):
            attributes[name] = [values[spatial.index(axis)] for axis in AXES]
    voxel_size_nm, origin = geometry_of_attributes(attributes, path)
    return Volume(_array(node, axes, path), path, voxel_size_nm, origin, node.attributes.get(ATTRIBUTES_KEY, {}))


def _open_level(group: _Node, level: Mapping[str, Any], path: str) -> Volume:
    """One resolution of an OME-Zarr image, with the size and place that the group tells."""
    image = group.multiscale or {}
    node = _node(group.folder / level["path"])
    if node is None or node.shape is None:
        raise UserError(f"{path} is incomplete: its full resolution {level['path']} is missing; copy it again")
    stated = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", ())]
    axes = _known_axes([axis["name"] for axis in stated]) or _default_axes(node, path)
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    for transform in (*level.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ())):
        if transform["type"] == "scale":
            scale, translation = scale * transform["scale"], translation * transform["scale"]
        elif transform["type"] == "translation":
            translation = translation + transform["translation"]
    order = [axes.index(axis) for axis in AXES]
    units = [nm_per_unit(stated[i].get("unit")) if stated else None for i in order]
    size = voxel_size_or_none(scale[order])
    voxel_size_nm: VoxelSize | None = None
    if size is not None and None not in units:
        voxel_size_nm = voxel_size_or_none(np.multiply(size, np.asarray(units, dtype=np.float64)))
    origin: Triple = origin_from_nm(translation[order], size, path)
    return Volume(_array(node, axes, path), path, voxel_size_nm, origin, node.attributes.get(ATTRIBUTES_KEY, {}))


def _array(node: _Node, axes: Sequence[str], path: str) -> ZarrArray:
    """The array in the order (c, z, y, x), without time and without an only channel that others wrote."""
    shape = dict(zip(axes, node.shape or (), strict=True))
    if shape.get("t", 1) > 1:
        raise UserError(f"{path} holds {shape['t']} time points: wanted one volume; save them apart")
    spec = {
        "driver": "zarr3" if node.version == 3 else "zarr",
        "kvstore": file_store(node.folder),
    }
    try:
        store = tensorstore.open(spec, context=storage_context(), read=True, open=True).result()
    except ValueError as error:
        raise UserError(f"{path} cannot be opened as Zarr ({error})") from error
    remaining = list(axes)
    for axis in ("t", "c"):
        if shape.get(axis) == 1 and (axis == "t" or ATTRIBUTES_KEY not in node.attributes):
            store = store[(slice(None),) * remaining.index(axis) + (0,)]
            remaining.remove(axis)
    wanted = [axis for axis in ("t", "c", *AXES) if axis in remaining]
    return ZarrArray(store.transpose([remaining.index(axis) for axis in wanted]))


def _known_axes(names: object) -> list[str] | None:
    """Axis names in lower case, where they are z, y, x with or without c and t."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    axes = [name.rstrip("^").lower() for name in names]
    known = len(set(axes)) == len(axes) and set(AXES) <= set(axes) <= {*AXES, "c", "t"}
    return axes if known else None


def _default_axes(node: _Node, path: str) -> list[str]:
    shape = node.shape or ()
    if len(shape) not in _AXES_BY_COUNT:
        raise UserError(
            f"{path} has {len(shape)} axes {shape}: wanted 3 (z, y, x), or 4 (c, z, y, x) for affinities; "
            "a single section is a volume as a folder with one page"
        )
    return list(_AXES_BY_COUNT[len(shape)])


def _arrays(node: _Node, prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays below a group; an OME-Zarr image counts as one."""
    for folder in sorted(path for path in node.folder.iterdir() if path.is_dir()):
        child = _node(folder)
        if child is None:
            continue
        if child.shape is not None:
            yield prefix + folder.name, child.shape
        elif child.multiscale is not None:
            full = _node(folder / child.multiscale["datasets"][0]["path"])
            yield prefix + folder.name, (full.shape if full is not None else None) or ()
        else:
            yield from _arrays(child, f"{prefix}{folder.name}/")


def _node(folder: Path) -> _Node | None:
    """The metadata of a folder; None where it is no part of a Zarr."""
    if (folder / "zarr.json").is_file():
        metadata = _json(folder / "zarr.json")
        shape = tuple(metadata["shape"]) if metadata.get("node_type") == "array" else None
        return _Node(folder, 3, metadata.get("attributes") or {}, shape, metadata.get("dimension_names"))
    attributes = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    if (folder / ".zarray").is_file():
        shape = tuple(_json(folder / ".zarray")["shape"])
        return _Node(folder, 2, attributes, shape, attributes.get("_ARRAY_DIMENSIONS"))
    return _Node(folder, 2, attributes, None, None) if (folder / ".zgroup").is_file() else None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:  # of JSON or of UTF-8
        raise UserError(f"{file} is damaged ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is damaged: wanted a table; copy it again")
    return content
