"""How many voxels each label shares with each segment: the one table that every score is computed from.

1. Cut the volume into slabs of sections, so that memory stays bounded.
2. In each slab find the runs of voxels in which neither id changes; a segmentation has far fewer runs than voxels.
3. Sort the runs by label and segment, and add up those of the same pair.
4. Add the tables of the slabs in the same way. Tables of blocks of a larger volume add up likewise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError

SLAB_VOXELS = 1 << 22
"""Voxels counted at a time: a slab's work arrays stay near 100 MB even where every voxel is a run of its own."""


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
        for name, ids in (("segmentation", segmentation), ("labels", labels)):
            check_ids(ids, name)
        for name, other in (("labels", labels), ("mask", mask)):
            if other is not None and other.shape != segmentation.shape:
                raise UserError(
                    f"{name}: wanted the shape of segmentation, {segmentation.shape}, got {other.shape}: crop both "
                    "to the same box"
                )
        if mask is not None and mask.dtype != np.bool_:
            raise UserError(f"mask: wanted bool, got {mask.dtype}: compare it with a value, such as mask > 0")
        sections = max(1, SLAB_VOXELS * len(segmentation) // max(1, segmentation.size))
        slabs = [slice(start, start + sections) for start in range(0, len(segmentation), sections)]
        return cls.merged(
            _count_runs(segmentation[slab], labels[slab], None if mask is None else mask[slab]) for slab in slabs
        )

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


def _count_runs(segmentation: NDArray[Any], labels: NDArray[Any], mask: NDArray[np.bool_] | None) -> Contingency:
    """The table of one slab."""
    if mask is None:
        segments, truth = segmentation.ravel(), labels.ravel()
    else:
        segments, truth = segmentation[mask], labels[mask]
    starts = _run_starts(truth, segments)
    lengths = np.diff(starts, append=truth.size)
    return _unique_pairs(truth[starts].astype(np.uint64), segments[starts].astype(np.uint64), lengths)


def _unique_pairs(labels: NDArray[np.uint64], segments: NDArray[np.uint64], counts: NDArray[np.int64]) -> Contingency:
    """Sort pairs and add the counts of equal ones."""
    order = np.lexsort((segments, labels))
    labels, segments, counts = labels[order], segments[order], counts[order]
    starts = _run_starts(labels, segments)
    totals = np.add.reduceat(counts, starts) if starts.size else counts
    return Contingency(labels[starts], segments[starts], totals.astype(np.int64))


def _run_starts(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.intp]:
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
