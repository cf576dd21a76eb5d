"""Skeletons of neurons: read from SWC files, or made from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bioimage_cpp
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssns.blockwise.grid import blocks
from ssns.errors import UserError
from ssns.metrics.contingency import BLOCK
from ssns.space import Box, Triple, VoxelSize, triple
from ssns.volume import Volume

STEP_NM = 32.0
"""Labels are looked at in steps of about so many nm along each axis to be skeletonised: neurites are wider."""

TEASAR_SCALE, TEASAR_CONSTANT_NM = 1.5, 300.0
"""What a point of a centre line covers around it: so many times the distance to the surface, and so much more."""

SURFACE_NM = 45.0
"""From the surface of a neurite on, where a segmentation may be beside it and yet right."""

_COLUMNS = 7


@dataclass(frozen=True, eq=False)
class Skeletons:
    """Nodes joined by edges, some for each neuron.

    Attributes:
        nodes: Positions z, y, x in nm, (n, 3); the centre of a volume's voxel 0 is at its origin.
        edges: Rows of ``nodes``, (m, 2).
        neurons: The neuron that each node belongs to, (n,); it may have several trees.
        inner: Whether a node is so deep in its neuron that a segment on it is surely on the neuron, (n,).
    """

    nodes: NDArray[np.float64]
    edges: NDArray[np.int64]
    neurons: NDArray[np.int64]
    inner: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence[Skeletons]) -> Skeletons:
        """All of several."""
        begins = np.cumsum([0, *(len(part.nodes) for part in parts)])[:-1]
        edges = [part.edges + begin for part, begin in zip(parts, begins, strict=True)]
        return cls(
            np.concatenate([np.empty((0, 3)), *(part.nodes for part in parts)]),
            np.concatenate([np.empty((0, 2), np.int64), *edges]),
            np.concatenate([np.empty(0, np.int64), *(part.neurons for part in parts)]),
            np.concatenate([np.empty(0, np.bool_), *(part.inner for part in parts)]),
        )

    @property
    def lengths_nm(self) -> NDArray[np.float64]:
        """Length of each edge, (m,)."""
        ends = self.nodes[self.edges]
        lengths: NDArray[np.float64] = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        return lengths

    def voxels(self, voxel_size_nm: VoxelSize) -> NDArray[np.int64]:
        """The voxel that each node is in, (n, 3)."""
        return np.floor(self.nodes / voxel_size_nm + 0.5).astype(np.int64)

    @property
    def trees(self) -> NDArray[np.int32]:
        """What each node is joined with by edges, (n,)."""
        ends = (self.edges[:, 0], self.edges[:, 1])
        graph = coo_array((np.ones(len(self.edges), bool), ends), shape=(len(self.nodes), len(self.nodes)))
        trees: NDArray[np.int32]
        _, trees = connected_components(graph, directed=False)
        return trees

    def within(self, box: Box, voxel_size_nm: VoxelSize) -> Skeletons:
        """What lies in a box of voxels, with positions from its first voxel on."""
        voxels = self.voxels(voxel_size_nm)
        inside = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
        rows = np.cumsum(inside) - 1
        edges = rows[self.edges[np.isin(self.edges, np.flatnonzero(inside)).all(axis=1)]]
        nodes = self.nodes[inside] - np.multiply(box.start, voxel_size_nm)
        return Skeletons(nodes, edges, self.neurons[inside], self.inner[inside])


def read_swc(path: str | Path) -> Skeletons:
    """Read an SWC file, or all in a folder: a neuron each, all nodes of which count as inner.

    A line is ``id type x y z radius parent``: positions in nm, parent -1 at a root; ``#`` begins a comment. Several
    roots are several trees of one neuron.

    Raises:
        UserError: There is no such file, or a line is none of SWC.
    """
    return Skeletons.joined([_read_neuron(file, neuron) for neuron, file in enumerate(swc_files(path))])


def swc_files(path: str | Path) -> list[Path]:
    """The file itself, or those in a folder.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    files = sorted(path.glob("*.swc")) if path.is_dir() else [path]
    if not all(file.is_file() for file in files) or not files:
        raise UserError(f"skeletons: wanted an SWC file or a folder of them, got {path}: no such file is there")
    return files


def _read_neuron(path: Path, neuron: int) -> Skeletons:
    """The skeleton of one file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"skeletons: {path} cannot be read ({error}): name an SWC file or a folder of them") from None
    rows: dict[int, int] = {}
    nodes: list[tuple[float, float, float]] = []
    parents: list[tuple[int, int]] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            if len(words) != _COLUMNS:
                raise ValueError
            node, parent = int(words[0]), int(words[6])
            x, y, z = map(float, words[2:5])
        except ValueError:
            raise UserError(
                f"skeletons: {path}, line {number}: wanted 'id type x y z radius parent', got {line.strip()!r}"
            ) from None
        rows[node] = len(nodes)
        nodes.append((z, y, x))
        parents.append((number, parent))
    edges = []
    for row, (number, parent) in enumerate(parents):
        if parent >= 0:
            if parent not in rows:
                raise UserError(f"skeletons: {path}, line {number}: wanted a parent in the file, got {parent}")
            edges.append((row, rows[parent]))
    return Skeletons(
        np.array(nodes, np.float64).reshape(-1, 3),
        np.array(edges, np.int64).reshape(-1, 2),
        np.full(len(nodes), neuron),
        np.ones(len(nodes), np.bool_),
    )


def skeleton_step(voxel_size_nm: VoxelSize) -> Triple:
    """Voxels (z, y, x) from one that is looked at to the next, about `STEP_NM`."""
    return triple(max(1, round(STEP_NM / size)) for size in voxel_size_nm)


def skeletonize(labels: NDArray[Any], voxel_size_nm: VoxelSize) -> Skeletons:
    """The centre lines of neurons, by TEASAR (Sato et al. 2000, doi 10.1109/PCCGA.2000.883951).

    They end at the surface, where a segmentation may put the boundary a voxel further in or out. Inner nodes are
    deeper than `SURFACE_NM`, or in thin neurons deeper than half of the others.

    Args:
        labels: Ids (z, y, x), every `skeleton_step`-th voxel of a volume, 0 is background.
        voxel_size_nm: Of these voxels (z, y, x).
    """
    found = bioimage_cpp.skeleton.teasar_labels(
        labels.astype(np.uint64), spacing=voxel_size_nm, scale=TEASAR_SCALE, constant=TEASAR_CONSTANT_NM
    )
    return Skeletons.joined(
        [
            Skeletons(
                nodes,
                edges.astype(np.int64),
                np.full(len(nodes), neuron),
                depths >= min(SURFACE_NM, float(np.median(depths))),
            )
            for neuron, (nodes, edges, depths) in found.items()
        ]
    )


def ids_at(volume: Volume, voxels: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The ids of some voxels (n, 3) of a volume, which is read block by block."""
    found = np.zeros(len(voxels), np.uint64)
    for block in blocks(volume.box, BLOCK):
        here = ((voxels >= block.write.start) & (voxels < block.write.stop)).all(axis=1)
        if here.any():
            found[here] = volume.read(block.write)[tuple((voxels[here] - block.write.start).T)]
    return found
