"""The stored form of a written volume: an OME-Zarr 0.5 group of one resolution, with the attributes of funlib."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorstore

from ssns.errors import UserError
from ssns.files import write_text
from ssns.space import AXES, Triple, triple
from ssns.volume.volume import Volume
from ssns.volume.zarr import ATTRIBUTES_KEY, file_store, storage_context

LEVEL = "0"
"""Name of the full resolution in the group."""

_CHUNK: Triple = (16, 128, 128)
_CHUNKS_PER_SHARD: Triple = (4, 4, 4)
_SHARD_FROM_CHUNKS = 16_384
"""Arrays of more chunks than this are sharded: file systems slow down over millions of files."""


@dataclass(frozen=True)
class StorageLayout:
    """Shapes of chunks and of files.

    Attributes:
        chunks: What is compressed and read together, (z, y, x) or (1, z, y, x).
        shards: What is one file; None: each chunk is one.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    @classmethod
    def of(
        cls, shape: Sequence[int], chunks: Sequence[int] | None = None, shards: Sequence[int] | None = None
    ) -> StorageLayout:
        """The layout of an array of ``shape``; what is None is chosen.

        Args:
            shape: (z, y, x) or (c, z, y, x).
            chunks: Voxels (z, y, x) that are compressed and read together.
            shards: Voxels (z, y, x) of one file.

        Raises:
            UserError: Chunks are empty, or shards are not multiples of chunks.
        """
        extent, leading = triple(shape[-3:]), (1,) * (len(shape) - 3)
        # No larger than the array, else every small volume would be a whole chunk in memory.
        inner = triple(chunks) if chunks is not None else triple(map(min, _CHUNK, extent))
        if min(inner) < 1:
            raise UserError(f"chunks are {inner} (z, y, x): wanted at least 1 voxel each")
        count = math.prod(shape[:-3]) * math.prod(-(-n // c) for n, c in zip(extent, inner, strict=True))
        if shards is not None:
            outer = triple(shards)
        elif count > _SHARD_FROM_CHUNKS:
            outer = triple(c * n for c, n in zip(inner, _CHUNKS_PER_SHARD, strict=True))
        else:
            outer = inner
        if any(s < c or s % c for s, c in zip(outer, inner, strict=True)):
            raise UserError(f"shards {outer} are not multiples of chunks {inner} (z, y, x): change one of them")
        return cls((*leading, *inner), (*leading, *outer) if outer != inner else None)

    def codecs(self) -> list[dict[str, Any]]:
        """The codec pipeline of Zarr 3: Zstandard after a byte shuffle, in shards where there are some."""
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        blosc = {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 5, "shuffle": "shuffle"}}
        if self.shards is None:
            return [little, blosc]
        index = [little, {"name": "crc32c"}]
        inner = {"chunk_shape": list(self.chunks), "codecs": [little, blosc], "index_codecs": index}
        return [{"name": "sharding_indexed", "configuration": inner}]


def create_ome_zarr(folder: Path, plan: Volume, layout: StorageLayout) -> None:
    """Make an array of zeros, then the group around it: a folder is a Zarr only once both are there.

    Args:
        folder: Does not exist yet.
        plan: Shape, type, voxel size, origin and attributes; its voxels play no part.
        layout: Of its chunks.

    Raises:
        OSError, ValueError: It cannot be written.
    """
    shape = list(plan.array.shape)
    names = ["c", *AXES][-len(shape) :]
    spec = {
        "driver": "zarr3",
        "kvstore": file_store(folder / LEVEL),
        "metadata": {
            "shape": shape,
            "data_type": plan.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.shards or layout.chunks)}},
            "codecs": layout.codecs(),
            "dimension_names": names,
            "attributes": {ATTRIBUTES_KEY: dict(plan.attributes), **_funlib_attributes(plan, names)},
        },
    }
    tensorstore.open(spec, context=storage_context(), create=True).result()
    attributes = {"ome": {"version": "0.5", "multiscales": [_multiscale(plan, names)]}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_text(folder / "zarr.json", json.dumps(group, indent=2))


def _multiscale(plan: Volume, names: Sequence[str]) -> dict[str, Any]:
    """The OME-Zarr image: one resolution; a translation names the centre of voxel 0, so no half voxel comes in."""
    unit = {} if plan.voxel_size_nm is None else {"unit": "nanometer"}
    size = plan.voxel_size_nm or (1.0, 1.0, 1.0)
    leading = len(names) - 3
    translation = [0.0] * leading + [n * o for n, o in zip(size, plan.origin, strict=True)]
    return {
        "name": Path(plan.path).stem,
        "axes": [
            {"name": name, "type": "space", **unit} if name in AXES else {"name": name, "type": "channel"}
            for name in names
        ],
        "datasets": [
            {
                "path": LEVEL,
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * leading + list(size)},
                    {"type": "translation", "translation": translation},
                ],
            }
        ],
    }


def _funlib_attributes(plan: Volume, names: Sequence[str]) -> dict[str, Any]:
    """What daisy, volara and bootstrapper read beside an array."""
    if plan.voxel_size_nm is None:
        return {}
    return {
        "voxel_size": list(plan.voxel_size_nm),
        "offset": [n * o for n, o in zip(plan.voxel_size_nm, plan.origin, strict=True)],
        "axis_names": [name if name in AXES else f"{name}^" for name in names],
        "units": ["nm", "nm", "nm"],
    }
