"""Cleaning of a partition: segments that cannot be neurons join a neighbour. No voxel is lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssns.kernels import compiled
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.relabelling import Ids, relabel
from ssns.settings import Component


class Cleaning(Component):
    """What is done about segments that cannot be neurons: holes first, then islands, then what is too small."""

    holes: bool = Field(default=False, description="Whether a segment that one other encloses joins it")
    islands: bool = Field(
        default=False, description="Whether a segment within one section joins its best neighbour in the next ones"
    )
    minimum_size: int = Field(default=0, ge=0, description="Voxels below which a segment joins its best neighbour")

    @property
    def needs_extent(self) -> bool:
        """Whether it has to be known where fragments are."""
        return self.holes or self.islands

    def clean(self, segments: NDArray[Any], graph: RegionGraph, extent: Extent | None) -> Ids:
        """A cleaner partition.

        Args:
            segments: Segment of each fragment, (n + 1,); of fragment 0, and no other, 0.
            graph: The graph of the fragments.
            extent: Of the fragments, where `needs_extent`.

        Returns:
            Segment of each fragment, dense, (n + 1,).
        """
        graph = replace(graph, histograms=None, far=None)  # They are not looked at, and would be added again and again.
        if self.needs_extent:
            assert extent is not None, "it was to be found"
            segments = fill_holes(segments, graph, extent) if self.holes else segments
            segments = merge_islands(segments, graph, extent) if self.islands else segments
        return merge_small(segments, graph, self.minimum_size)


@dataclass(frozen=True, eq=False)
class Extent:
    """Where regions are.

    Attributes:
        first: First section of each region, (n + 1,).
        last: Last section of each region, (n + 1,).
        open: Whether it reaches an end of the volume, or touches region 0, (n + 1,).
        depth: Sections of the volume.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    open: NDArray[np.bool_]
    depth: int

    @classmethod
    def of(cls, regions: NDArray[Any]) -> Extent:
        """The extent of regions (z, y, x)."""
        count, depth = int(regions.max(initial=0)) + 1, len(regions)
        first, last, reaches = np.full(count, depth), np.full(count, -1), np.zeros(count, bool)
        _find_extent(regions, first, last, reaches)
        return cls(first, last, reaches, depth)

    def contracted(self, merged: NDArray[Any]) -> Extent:
        """That of merged regions; see `RegionGraph.contracted`."""
        count = int(merged.max(initial=0)) + 1
        first, last, reaches = np.full(count, self.depth), np.full(count, -1), np.zeros(count, bool)
        np.minimum.at(first, merged, self.first)
        np.maximum.at(last, merged, self.last)
        np.logical_or.at(reaches, merged, self.open)
        return Extent(first, last, reaches, self.depth)


@compiled
def _find_extent(
    regions: NDArray[Any], first: NDArray[np.int64], last: NDArray[np.int64], reaches: NDArray[np.bool_]
) -> None:
    """Fill in the attributes of `Extent`, in one pass."""
    depth, height, width = regions.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                here = regions[z, y, x]
                first[here] = min(first[here], z)
                last[here] = z
                if z in (0, depth - 1) or y in (0, height - 1) or x in (0, width - 1):
                    reaches[here] = True
                for axis in range(3):
                    if (z, y, x)[axis] > 0:
                        before = regions[z - (axis == 0), y - (axis == 1), x - (axis == 2)]
                        if before == 0:
                            reaches[here] = True
                        elif here == 0:
                            reaches[before] = True


def _contracted(segments: NDArray[Any], graph: RegionGraph, extent: Extent) -> tuple[Ids, RegionGraph, Extent]:
    """Dense segments, their graph and where they are."""
    result = relabel(segments)
    return result, graph.contracted(result), extent.contracted(result)


def fill_holes(segments: NDArray[Any], graph: RegionGraph, extent: Extent) -> Ids:
    """Give segments that one other encloses to that one.

    A segment is enclosed by another where every path through touching segments from it to an end of the volume, or to
    region 0, leads through that one. What encloses may be enclosed itself: the outermost takes all.

    Args:
        segments: As in `merge_small`.
        graph: As in `merge_small`.
        extent: Of the fragments.

    Returns:
        As `merge_small`.
    """
    result, merged, places = _contracted(segments, graph, extent)
    count = len(merged.voxels)
    ends = np.flatnonzero(places.open[1:]) + 1
    one, other = np.concatenate([merged.pairs.T, [np.zeros_like(ends), ends]], axis=1)
    touching = coo_array((np.ones(one.size, dtype=bool), (one, other)), shape=(count, count))
    touching = (touching + touching.T).tocsr()
    return relabel(_enclosing(touching.indptr, touching.indices)[result])


@compiled
def _enclosing(starts: NDArray[np.int32], neighbours: NDArray[np.int32]) -> NDArray[np.int64]:
    """The outermost node that parts each one from node 0, or itself: by depth-first search (Hopcroft, Tarjan 1973).

    Args:
        starts: Neighbours of node ``i`` are from ``starts[i]`` to ``starts[i + 1]``, (n + 2,).
        neighbours: Each edge both ways.
    """
    count = len(starts) - 1
    following, parent = starts[:-1].copy(), np.full(count, -1, np.int64)
    # When a node was met, -1 before that; and the earliest node met by an edge from it or from what was met through it.
    met, earliest = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    order = np.zeros(count, np.int64)
    met[0], seen, node = 0, 1, 0
    while node >= 0:
        if following[node] == starts[node + 1]:
            if parent[node] >= 0:
                earliest[parent[node]] = min(earliest[parent[node]], earliest[node])
            node = parent[node]
            continue
        other = neighbours[following[node]]
        following[node] += 1
        if met[other] >= 0:
            earliest[node] = min(earliest[node], met[other])
        else:
            parent[other], met[other], earliest[other], order[seen] = node, seen, seen, other
            seen += 1
            node = other
    owner = np.arange(count)
    for other in order[1:seen]:
        node = parent[other]
        if owner[node] != node or (node > 0 and earliest[other] >= met[node]):
            owner[other] = owner[node]
    return owner


def merge_islands(segments: NDArray[Any], graph: RegionGraph, extent: Extent) -> Ids:
    """Give segments within one section to the neighbours in the sections beside it.

    Each joins that of highest mean affinity (then the largest contact, then the largest id), if it has any. Segments in
    the first and the last section stay: they may go on beyond the volume.

    Args:
        segments: As in `merge_small`.
        graph: As in `merge_small`.
        extent: Of the fragments.

    Returns:
        As `merge_small`.
    """
    result, merged, places = _contracted(segments, graph, extent)
    island = (places.first == places.last) & (places.first > 0) & (places.last < places.depth - 1)
    return _joined(result, *_best_neighbours(merged, island, (merged.area_z > 0) & (merged.total > 0)))


def merge_small(segments: NDArray[Any], graph: RegionGraph, minimum_size: int) -> Ids:
    """Give segments that are too small to the neighbours that they are most likely part of.

    In rounds, every segment below the minimum joins the neighbour of highest mean affinity (then the largest contact,
    then the largest id), until none is too small or those left touch nothing. Two segments of sufficient size never
    become one through a small one between them.

    Args:
        segments: Segment of each fragment, (n + 1,); of fragment 0, and no other, 0.
        graph: The graph of the fragments.
        minimum_size: Voxels that a segment must have.

    Returns:
        Segment of each fragment, dense, (n + 1,).
    """
    result = relabel(segments)
    if minimum_size <= 1:
        return result
    while True:
        merged = graph.contracted(result)
        small, large = _best_neighbours(merged, merged.voxels < minimum_size)
        if small.size == 0:
            return result
        result = _joined(result, small, large)


def _joined(segments: Ids, one: NDArray[np.int64], other: NDArray[np.int64]) -> Ids:
    """The partition with pairs of segments, none of them 0, made one."""
    count = int(segments.max(initial=0)) + 1
    joins = coo_array((np.ones(one.size, dtype=bool), (one, other)), shape=(count, count))
    _, groups = connected_components(joins, directed=False)
    # Nothing joins segment 0, so its group holds no other, and must be called 0 again.
    return relabel(np.where(segments == 0, 0, groups[segments] + 1))


def _best_neighbours(
    graph: RegionGraph, wanted: NDArray[np.bool_], contacts: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Wanted regions that touch another, and for each the one to join, by some contacts only or by all."""
    pairs, mean, area = graph.pairs, graph.mean, graph.area
    if contacts is not None:
        pairs, mean, area = pairs[contacts], mean[contacts], area[contacts]
    region, neighbour = np.concatenate([pairs, pairs[:, ::-1]]).T
    mean, area = np.tile(mean, 2), np.tile(area, 2)
    small = wanted[region]
    region, neighbour, mean, area = region[small], neighbour[small], mean[small], area[small]
    order = np.lexsort((neighbour, area, mean, region))
    region, neighbour = region[order], neighbour[order]
    last = np.ones(region.shape, dtype=bool)
    last[:-1] = region[1:] != region[:-1]
    return region[last], neighbour[last]
