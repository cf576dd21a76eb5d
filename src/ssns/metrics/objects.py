"""Which neurons and which segments the errors are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssns.metrics.contingency import Contingency
from ssns.metrics.information import contributions
from ssns.metrics.overlaps import Overlaps
from ssns.metrics.scoring import ScoringSettings, scored_rows

Ids = NDArray[np.uint64]

PIECE = 0.01
"""Share of an object's voxels from which on what has them is a piece of it: less is the width of a boundary."""


@dataclass(frozen=True, eq=False)
class ObjectErrors:
    """What each neuron, or each segment, adds to the variation of information, ids ascending.

    Attributes:
        ids: Of the neurons or segments, (n,).
        voxels: Scored voxels of each.
        voi_split: Bits, which add up to ``Scores.voi_split``.
        voi_merge: Bits, which add up to ``Scores.voi_merge``.
        pieces: Segments that have a `PIECE` of a neuron each, or neurons that do of a segment: 1 is right.
        main: The segment that has most of a neuron, or the neuron that a segment has most of.
        merged_with: Of a neuron, the largest other neuron in the segment that costs it most bits of merge; of a
            segment, the neuron that it has most of after its main one. 0 where ``is_merged`` is False.
        is_merged: Whether there is one.
        worst_pair: Row of the table: the pair that adds most bits to the two sums together.
    """

    ids: Ids
    voxels: NDArray[np.int64]
    voi_split: NDArray[np.float64]
    voi_merge: NDArray[np.float64]
    pieces: NDArray[np.int64]
    main: Ids
    merged_with: Ids
    is_merged: NDArray[np.bool_]
    worst_pair: NDArray[np.intp]


def object_errors(table: Contingency, settings: ScoringSettings | None = None) -> tuple[ObjectErrors, ObjectErrors]:
    """Errors by neuron and by segment.

    Args:
        table: All voxels, background included.
        settings: As in ``score``.

    Raises:
        UserError: There is no voxel to score.
        NothingSegmentedError: As in ``score``.
    """
    settings = settings or ScoringSettings()
    rows = scored_rows(table, settings)
    pairs = table.where(rows)
    split, merge = contributions(Overlaps.of(pairs, singleton=settings.singleton))
    neurons = _Pairs(pairs.labels, pairs.segments, pairs.counts, split, merge, np.flatnonzero(rows))
    segments = _Pairs(pairs.segments, pairs.labels, pairs.counts, split, merge, np.flatnonzero(rows))
    main, second, has_second = segments.largest_two()
    costliest = neurons.highest(merge)
    segment = np.searchsorted(np.unique(pairs.segments), pairs.segments[costliest])
    is_main = main[segment] == pairs.labels[costliest]
    is_merged = (merge[costliest] > 0) & (has_second[segment] | ~is_main)
    partner = np.where(is_main, second[segment], main[segment])
    return neurons.errors(partner, is_merged), segments.errors(second, has_second)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Scored pairs as one side sees them: (k,) each."""

    ids: Ids
    partners: Ids
    counts: NDArray[np.int64]
    split: NDArray[np.float64]
    merge: NDArray[np.float64]
    rows: NDArray[np.intp]

    def highest(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """For each id, ascending, its pair of the highest value; of equals that of more voxels, then the first."""
        order = np.lexsort((-self.counts, -values, self.ids))
        _, first = np.unique(self.ids[order], return_index=True)
        return order[first]

    def largest_two(self) -> tuple[Ids, Ids, NDArray[np.bool_]]:
        """For each id, ascending, the partners that share most voxels with it, and whether there is a second."""
        order = np.lexsort((-self.counts, self.ids))
        _, first, pieces = np.unique(self.ids[order], return_index=True, return_counts=True)
        partners = np.append(self.partners[order], np.uint64(0))
        has_second = pieces > 1
        return partners[first], np.where(has_second, partners[first + 1], 0).astype(np.uint64), has_second

    def errors(self, merged_with: Ids, is_merged: NDArray[np.bool_]) -> ObjectErrors:
        """The sums of each id."""
        ids, groups = np.unique(self.ids, return_inverse=True)
        voxels, pieces = np.zeros((2, len(ids)), np.int64)
        bits = np.zeros((len(ids), 2))
        np.add.at(voxels, groups, self.counts)
        np.add.at(pieces, groups, self.counts >= PIECE * voxels[groups])
        np.add.at(bits, groups, np.stack([self.split, self.merge], axis=1))
        return ObjectErrors(
            ids=ids,
            voxels=voxels,
            voi_split=bits[:, 0],
            voi_merge=bits[:, 1],
            pieces=pieces,
            main=self.largest_two()[0],
            merged_with=np.where(is_merged, merged_with, 0).astype(np.uint64),
            is_merged=is_merged,
            worst_pair=self.rows[self.highest(self.split + self.merge)],
        )
