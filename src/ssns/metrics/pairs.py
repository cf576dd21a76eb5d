"""The voxels of each pair of label and segment, counted in one pass by compiled loops.

1. Cut the arrays into pieces that stay in the processor's cache as flat uint64, whatever their type and layout.
2. Threads take turns at the pieces. Each finds the runs of voxels in which neither id changes, and adds their lengths
   to a hash table of its own, which grows with the number of pairs, not of voxels.
3. The tables of all threads, pieces and blocks add up.

Beside its count, each pair keeps the middle of its longest run: a voxel that is surely inside, where it is widest
along x. Runs end where pieces and blocks do: cut otherwise, it may be another voxel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.kernels import compiled
from ssns.metrics.contingency import Contingency, check_ids, check_shape, run_starts
from ssns.space import Triple

PIECE_VOXELS = 1 << 18
"""Voxels counted at a time by a thread: 2 MB as uint64."""

_FIRST_SLOTS = 1 << 12
_EVERYWHERE = np.ones(0, np.bool_)
"""The mask of a piece without one."""


class PairCounter:
    """Counts pairs over any number of blocks.

    Args:
        threads: That count at a time. None: one per core.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._tables = [_HashTable() for _ in range(threads or os.cpu_count() or 1)]
        self._blocks: list[_Block] = []
        self._voxels = 0

    def add(
        self,
        segmentation: NDArray[Any],
        labels: NDArray[Any],
        mask: NDArray[np.bool_] | None = None,
        *,
        start: Triple = (0, 0, 0),
    ) -> None:
        """Count the voxels of a block.

        Args:
            segmentation: Segment ids, any shape, any integer type, not negative.
            labels: Ground truth ids, same shape.
            mask: Boolean, same shape: only voxels where it is True are counted. None: all are.
            start: Voxel of the volume (z, y, x) at which the block begins, for `places`.

        Raises:
            UserError: Ids are not integers or are negative, or shapes differ.
        """
        _check(segmentation, labels, mask)
        self._blocks.append(_Block(self._voxels, segmentation.shape, start))
        arrays = [segmentation, labels] if mask is None else [segmentation, labels, mask]
        pieces = list(_pieces(arrays, self._voxels))
        self._voxels += segmentation.size
        turns = [pieces[turn :: len(self._tables)] for turn in range(len(self._tables))]
        busy = [(table, turn) for table, turn in zip(self._tables, turns, strict=True) if turn]
        if len(busy) < 2:
            for table, turn in busy:
                table.count(turn)
            return
        with ThreadPoolExecutor(len(busy)) as pool:
            for done in [pool.submit(table.count, turn) for table, turn in busy]:
                done.result()

    def table(self, names: NDArray[Any] | None = None) -> Contingency:
        """What has been counted so far.

        Args:
            names: Other ids for the labels that were counted, which index it, as ``Joined.components``.
        """
        labels, segments, counts = (self._column(name, names) for name in ("labels", "segments", "counts"))
        return Contingency.merged([Contingency(labels, segments, counts)])

    def places(self, names: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """A voxel of each pair of `table`, in its order, (k, 3) as z, y, x; every block had three axes."""
        columns = [self._column(name, names) for name in ("labels", "segments", "longest", "middle")]
        order = np.lexsort((columns[3], -columns[2], columns[1], columns[0]))
        labels, segments, _, middle = (column[order] for column in columns)
        return self._positions(middle[run_starts(labels, segments)])

    def _column(self, name: str, names: NDArray[Any] | None) -> NDArray[Any]:
        """One column of all tables, (n,); a pair may be in several of them."""
        column = np.concatenate([table.column(name) for table in self._tables])
        return column if names is None or name != "labels" else names[column].astype(np.uint64)

    def _positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Voxels of the volume (n, 3), from their numbers in the order of counting."""
        owners = np.searchsorted([block.first for block in self._blocks], numbers, side="right") - 1
        positions = np.empty((len(numbers), 3), np.int64)
        for owner in np.unique(owners):
            block, here = self._blocks[owner], owners == owner
            inside = np.unravel_index(numbers[here] - block.first, block.shape)
            positions[here] = np.stack(inside, axis=1) + block.start
        return positions


class _Block(NamedTuple):
    """A block that has been counted: the number of its first voxel, its shape, where it begins in the volume."""

    first: int
    shape: tuple[int, ...]
    start: Triple


class _Slots(NamedTuple):
    """Slots of a hash table, a power of two of them; one whose count is 0 is free.

    Attributes:
        labels: Ids, uint64 (n,).
        segments: Ids, uint64 (n,).
        counts: Voxels, int64 (n,).
        longest: Voxels of the longest run, int64 (n,).
        middle: Number of the voxel in the middle of that run, int64 (n,).
    """

    labels: NDArray[np.uint64]
    segments: NDArray[np.uint64]
    counts: NDArray[np.int64]
    longest: NDArray[np.int64]
    middle: NDArray[np.int64]

    @classmethod
    def free(cls, n: int) -> _Slots:
        labels, segments = np.zeros((2, n), np.uint64)
        counts, longest, middle = np.zeros((3, n), np.int64)
        return cls(labels, segments, counts, longest, middle)


@dataclass
class _HashTable:
    """The pairs of one thread, at most half of the slots being filled."""

    slots: _Slots = field(default_factory=lambda: _Slots.free(_FIRST_SLOTS))
    filled: int = 0

    def count(self, pieces: list[tuple[int, list[NDArray[Any]]]]) -> None:
        """Add the voxels of pieces, each with the number of its first voxel."""
        for number, arrays in pieces:
            segments, labels = _flat_ids(arrays[0], "segmentation"), _flat_ids(arrays[1], "labels")
            mask = np.ascontiguousarray(arrays[2]).reshape(-1) if len(arrays) > 2 else _EVERYWHERE
            done = 0
            while done < len(labels):
                done, self.filled = _count_runs(labels, segments, mask, number, done, self.slots, self.filled)
                if done < len(labels):
                    larger = _Slots.free(2 * len(self.slots.counts))
                    _move(self.slots, larger)
                    self.slots = larger

    def column(self, name: str) -> NDArray[Any]:
        """One column of the filled slots (k,), in no order."""
        column: NDArray[Any] = getattr(self.slots, name)
        return column[self.slots.counts > 0]


def _check(segmentation: NDArray[Any], labels: NDArray[Any], mask: NDArray[np.bool_] | None) -> None:
    """Refuse arrays that cannot be counted; that signed ids are not negative is seen piece by piece."""
    for name, ids in (("segmentation", segmentation), ("labels", labels)):
        check_ids(ids[:0], name)
    for name, other in (("labels", labels), ("mask", mask)):
        if other is not None:
            check_shape(other.shape, segmentation.shape, name)
    if mask is not None and mask.dtype != np.bool_:
        raise UserError(f"mask: wanted bool, got {mask.dtype}: compare it with a value, such as mask > 0")


def _pieces(arrays: list[NDArray[Any]], number: int) -> Iterator[tuple[int, list[NDArray[Any]]]]:
    """Views of at most `PIECE_VOXELS` that follow each other in C order, each with the number of its first voxel."""
    size, length = arrays[0].size, len(arrays[0])
    step = PIECE_VOXELS * length // size if size else 0
    if size <= PIECE_VOXELS:
        yield number, arrays
        return
    for start in range(0, length, max(1, step)):
        part = [array[start : start + max(1, step)] for array in arrays]
        yield from [(number, part)] if step else _pieces([array[0] for array in part], number)
        number += part[0].size


def _flat_ids(ids: NDArray[Any], name: str) -> NDArray[np.uint64]:
    """The ids of a piece, (n,)."""
    check_ids(ids, name)
    return np.ascontiguousarray(ids, dtype=np.uint64).reshape(-1)


@compiled
def _slot_of(label: np.uint64, segment: np.uint64, slots: _Slots) -> np.uint64:
    """The slot of a pair, or the free one where it belongs (linear probing)."""
    last = np.uint64(len(slots.counts) - 1)
    mixed = (label * np.uint64(0x9E3779B97F4A7C15)) ^ (segment * np.uint64(0xC2B2AE3D27D4EB4F))
    slot = (mixed ^ (mixed >> np.uint64(32))) & last
    while slots.counts[slot] != 0 and (slots.labels[slot] != label or slots.segments[slot] != segment):
        slot = (slot + np.uint64(1)) & last
    return slot


@compiled
def _count_runs(
    labels: NDArray[np.uint64],
    segments: NDArray[np.uint64],
    mask: NDArray[np.bool_],
    number: int,
    begin: int,
    slots: _Slots,
    filled: int,
) -> tuple[int, int]:
    """Add the runs from ``begin`` on, as far as there are free slots: where it stopped, and the slots filled then.

    An empty mask counts every voxel; ``number`` is that of the first voxel.
    """
    n = len(labels)
    masked = len(mask) > 0
    start = begin
    while start < n:
        if masked and not mask[start]:
            start += 1
            continue
        label, segment = labels[start], segments[start]
        stop = start + 1
        while stop < n and labels[stop] == label and segments[stop] == segment and not (masked and not mask[stop]):
            stop += 1
        slot = _slot_of(label, segment, slots)
        if slots.counts[slot] == 0:
            if 2 * filled >= len(slots.counts):
                break
            slots.labels[slot], slots.segments[slot] = label, segment
            filled += 1
        slots.counts[slot] += stop - start
        if stop - start > slots.longest[slot]:
            slots.longest[slot] = stop - start
            slots.middle[slot] = number + (start + stop) // 2
        start = stop
    return start, filled


@compiled
def _move(slots: _Slots, larger: _Slots) -> None:
    """Copy all pairs into a larger table."""
    for old in range(len(slots.counts)):
        if slots.counts[old] != 0:
            slot = _slot_of(slots.labels[old], slots.segments[old], larger)
            larger.labels[slot], larger.segments[slot] = slots.labels[old], slots.segments[old]
            larger.counts[slot] = slots.counts[old]
            larger.longest[slot] = slots.longest[old]
            larger.middle[slot] = slots.middle[old]
