"""Connected pieces of ground truth, of an array at once or of a volume block by block.

By blocks:

1. Label each block together with the voxel that follows it along each axis; give its pieces numbers of their own.
2. Where a block that comes later labels those voxels again, note which piece of the one is which piece of the other.
3. Join what belongs together. What was counted under the numbers of pieces is then renamed: no voxel is touched again.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Literal, NamedTuple

import bioimage_cpp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssns.blockwise.grid import Block
from ssns.errors import UserError
from ssns.metrics.contingency import check_ids
from ssns.space import Box, Triple, triple
from ssns.volume import Volume

Connectivity = Literal[6, 18, 26]

_NEIGHBOUR_STEPS = {6: 1, 18: 2, 26: 3}
"""Neighbours of a voxel -> axes along which a neighbour may differ, as the library wants it."""


def components(
    labels: ArrayLike, background: int | None = 0, connectivity: Connectivity = 26
) -> NDArray[np.unsignedinteger[Any]]:
    """Give every connected piece of equal ids an id of its own.

    Truth that is cut from a larger volume holds neurons that leave the box and come back. Nothing in the box joins
    the pieces, so no segmentation of it can, and scores are fair only after this.

    Args:
        labels: Ids (z, y, x), any integer type.
        background: The id that stays background, 0 in the result. None: every id is a neuron.
        connectivity: 6, 18 or 26 neighbours.

    Returns:
        Ids 1 .. n (z, y, x), smallest sufficient unsigned type; touching voxels share one exactly where their ids do.

    Raises:
        UserError: Labels are not three-dimensional, not integers, or negative; unknown connectivity.
    """
    ids = np.asarray(labels)
    check_ids(ids, "labels")
    if ids.ndim != 3:
        raise UserError(f"labels: wanted three axes (z, y, x), got shape {ids.shape}: stack sections into a volume")
    if connectivity not in _NEIGHBOUR_STEPS:
        raise UserError(f"connectivity: wanted 6, 18 or 26, got {connectivity}")
    pieces = _label(ids, background, connectivity)
    smallest: NDArray[np.unsignedinteger[Any]] = pieces.astype(np.min_scalar_type(int(pieces.max(initial=0))))
    return smallest


class Joined(NamedTuple):
    """What the pieces of blocks are together.

    Attributes:
        components: The component of each piece, (pieces + 1,): 0 is the background, then 1 .. n as they are met.
        labels: The id of each component in the labels, (n + 1,); 0 for the background.
    """

    components: NDArray[np.int64]
    labels: NDArray[np.uint64]


class BlockwiseComponents:
    """The `components` of a volume that is seen block by block, in memory that grows with the faces of blocks.

    Args:
        labels: Ids (z, y, x).
        background: The id that stays background. None: every id is a neuron.
        connectivity: 6, 18 or 26 neighbours.
    """

    def __init__(self, labels: Volume, background: int | None = 0, connectivity: Connectivity = 26) -> None:
        self._volume, self._background, self._connectivity = labels, background, connectivity
        self._labels = [np.zeros(1, np.uint64)]
        self._pieces = 1
        self._same = [np.zeros((2, 0), np.int64)]
        self._awaited: dict[Triple, list[tuple[Box, NDArray[np.int64]]]] = {}

    def pieces(self, block: Block) -> NDArray[np.int64]:
        """Numbers of the pieces in the voxels that a block writes, 0 is background.

        Blocks come in the order of ``blocks``, each once.
        """
        start = block.write.start
        grown = Box(start, triple(end + 1 for end in block.write.stop)).intersection(self._volume.box)
        ids = self._volume.read(grown)
        pieces = _label(ids, self._background, self._connectivity).astype(np.int64)
        labels = np.zeros(pieces.max(initial=0) + 1, np.uint64)
        labels[pieces] = ids
        pieces[pieces > 0] += self._pieces - 1
        self._labels.append(labels[1:])
        self._pieces += len(labels) - 1
        for box, known in self._awaited.pop(block.index, []):
            self._note(known, pieces[box.relative_to(start).slices])
        for step in product((0, 1), repeat=3):
            box = _following(block.write, triple(step)).intersection(grown)
            if any(step) and box.size:
                index = triple(a + b for a, b in zip(block.index, step, strict=True))
                self._awaited.setdefault(index, []).append((box, pieces[box.relative_to(start).slices].copy()))
        return pieces[block.write.relative_to(start).slices]

    def joined(self) -> Joined:
        """What belongs together, once all blocks have been seen."""
        first, second = np.concatenate(self._same, axis=1)
        graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(self._pieces, self._pieces))
        _, groups = connected_components(graph, directed=False)
        _, first_piece, names = np.unique(groups, return_index=True, return_inverse=True)
        order = np.argsort(first_piece)
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return Joined(ranks[names], np.concatenate(self._labels)[first_piece[order]])

    def _note(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Two numberings of the same voxels."""
        pairs = np.stack([first.ravel(), second.ravel()])[:, first.ravel() > 0]
        self._same.append(np.unique(pairs, axis=1))


def _following(box: Box, step: Triple) -> Box:
    """The voxels just behind a box along the axes whose step is 1."""
    ranges = list(zip(box.start, box.stop, step, strict=True))
    return Box(
        triple(stop if further else start for start, stop, further in ranges),
        triple(stop + further for _, stop, further in ranges),
    )


def _label(ids: NDArray[Any], background: int | None, connectivity: Connectivity) -> NDArray[np.uint64]:
    """Pieces 1 .. n of ids (z, y, x), 0 where the background is."""
    steps = _NEIGHBOUR_STEPS[connectivity]
    ids = ids.astype(np.uint64, copy=False)
    pieces: NDArray[np.uint64]
    if background is None:
        # The library insists on a background: what it leaves out is labelled on its own.
        pieces = bioimage_cpp.segmentation.label(ids, background=0, connectivity=steps)
        rest = bioimage_cpp.segmentation.label(ids == 0, background=0, connectivity=steps)
        return np.where(rest > 0, rest + pieces.max(initial=0), pieces)
    pieces = bioimage_cpp.segmentation.label(ids, background=background, connectivity=steps)
    return pieces
