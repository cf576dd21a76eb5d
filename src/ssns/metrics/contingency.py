"""How many voxels each label shares with each segment: the one table that every score is computed from.

Tables of blocks add up to that of the volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.blockwise.grid import blocks
from ssns.errors import UserError
from ssns.space import Triple
from ssns.volume import Volume

BLOCK: Triple = (32, 512, 512)
"""Voxels (z, y, x) of a volume on disk that are looked at together: 67 MB as uint64."""


@dataclass(frozen=True, eq=False)
class Contingency:
    """Sparse counts of the voxels of each pair of label and segment.

    Attributes:
        labels: Ground truth id of each pair, uint64 (k,).
        segments: Segment id of each pair, uint64 (k,).
        counts: Voxels of each pair, int64 (k,), at least 1. Pairs are unique and sorted by label, then segment.
    """

    labels: NDArray[np.uint64]
    segments: NDArray[np.uint64]
    counts: NDArray[np.int64]

    @classmethod
    def count(
        cls, segmentation: NDArray[Any], labels: NDArray[Any], mask: NDArray[np.bool_] | None = None
    ) -> Contingency:
        """Count the pairs of two arrays.

        Args:
            segmentation: Segment ids, any shape, any integer type, not negative.
            labels: Ground truth ids, same shape.
            mask: Boolean, same shape: only voxels where it is True are counted. None: all are.

        Raises:
            UserError: Ids are not integers or are negative, or shapes differ.
        """
        from ssns.metrics.pairs import PairCounter  # brings numba

        counter = PairCounter()
        counter.add(segmentation, labels, mask)
        return counter.table()

    @classmethod
    def count_volumes(
        cls, segmentation: Volume, labels: Volume, mask: Volume | None = None, *, block: Triple = BLOCK
    ) -> Contingency:
        """Count the pairs of two volumes, which are read block by block.

        Args:
            segmentation: Segment ids (z, y, x).
            labels: Ground truth ids, same shape.
            mask: Boolean, same shape, as in `count`.
            block: Voxels (z, y, x) in memory at a time.

        Raises:
            UserError: As in `count`.
        """
        from ssns.metrics.pairs import PairCounter  # brings numba

        counter = PairCounter()
        for name, other in (("labels", labels), ("mask", mask)):
            if other is not None:
                check_shape(other.shape, segmentation.shape, name)
        for each in blocks(segmentation.box, block):
            box = each.write
            counter.add(segmentation.read(box), labels.read(box), None if mask is None else mask.read(box))
        return counter.table()

    @classmethod
    def merged(cls, tables: Iterable[Contingency]) -> Contingency:
        """The sum of tables of separate voxels."""
        parts = list(tables)
        return _unique_pairs(
            np.concatenate([np.empty(0, np.uint64), *(part.labels for part in parts)]),
            np.concatenate([np.empty(0, np.uint64), *(part.segments for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
        )

    def __add__(self, other: Contingency) -> Contingency:
        """The table of the voxels of both."""
        return Contingency.merged((self, other))

    def where(self, keep: NDArray[np.bool_]) -> Contingency:
        """Only the pairs where ``keep`` (k,) is True."""
        return Contingency(self.labels[keep], self.segments[keep], self.counts[keep])

    def foreground(self) -> Contingency:
        """Only the pairs of a label and a segment, neither of which is 0."""
        return self.where((self.labels != 0) & (self.segments != 0))

    def renamed(self, names: NDArray[Any]) -> Contingency:
        """The table once each segment has another id: ``names[segment]``, which several may share."""
        return _unique_pairs(self.labels, names[self.segments].astype(np.uint64), self.counts)

    @property
    def voxels(self) -> int:
        """All voxels counted."""
        return int(self.counts.sum())

    @cached_property
    def label_sizes(self) -> NDArray[np.int64]:
        """For each pair, the voxels of its label in the whole table, (k,)."""
        return _group_sizes(self.labels, self.counts)

    @cached_property
    def segment_sizes(self) -> NDArray[np.int64]:
        """For each pair, the voxels of its segment in the whole table, (k,)."""
        return _group_sizes(self.segments, self.counts)


def check_ids(ids: NDArray[Any], name: str) -> None:
    """Refuse what cannot be ids: floats, booleans and negative numbers.

    Raises:
        UserError: ``ids`` are no ids; ``name`` is the argument that the message blames.
    """
    if ids.dtype.kind not in "ui":
        raise UserError(f"{name}: wanted integer ids, got {ids.dtype}: convert it, such as {name}.astype('uint32')")
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise UserError(f"{name}: wanted ids of 0 or more, got {ids.min()}: give unknown voxels an id, and mask them")


def check_shape(got: tuple[int, ...], wanted: tuple[int, ...], name: str) -> None:
    """Refuse what is not of the shape of the segmentation.

    Raises:
        UserError: It is not; ``name`` is the argument that the message blames.
    """
    if got != wanted:
        raise UserError(f"{name}: wanted the shape of segmentation, {wanted}, got {got}: crop both to the same box")


def _unique_pairs(labels: NDArray[np.uint64], segments: NDArray[np.uint64], counts: NDArray[np.int64]) -> Contingency:
    """Sort pairs and add the counts of equal ones."""
    order = np.lexsort((segments, labels))
    labels, segments, counts = labels[order], segments[order], counts[order]
    starts = run_starts(labels, segments)
    totals = np.add.reduceat(counts, starts) if starts.size else counts
    return Contingency(labels[starts], segments[starts], totals.astype(np.int64))


def run_starts(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.intp]:
    """Where one of two flat arrays of the same length begins a new value."""
    changes = np.ones(first.shape, dtype=bool)
    np.not_equal(first[1:], first[:-1], out=changes[1:])
    changes[1:] |= second[1:] != second[:-1]
    return np.flatnonzero(changes)


def _group_sizes(ids: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each entry the sum of the counts with its id."""
    _, groups = np.unique(ids, return_inverse=True)
    sizes = np.zeros(groups.max(initial=-1) + 1, dtype=np.int64)
    np.add.at(sizes, groups, counts)
    return sizes[groups]
