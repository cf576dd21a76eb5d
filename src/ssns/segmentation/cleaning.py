"""Cleaning of a partition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.relabelling import Ids, relabel


def merge_small(segments: NDArray[Any], graph: RegionGraph, minimum_size: int) -> Ids:
    """Give segments that are too small to the neighbours that they are most likely part of.

    In rounds, every segment below the minimum joins the neighbour of highest mean affinity (then the largest contact,
    then the largest id), until none is too small or those left touch nothing. No voxel is lost, and two segments of
    sufficient size never become one through a small one between them.

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
    graph = replace(graph, histograms=None)  # They are not looked at, and would be added in every round.
    while True:
        merged = graph.contracted(result)
        small, large = _best_neighbours(merged, minimum_size)
        if small.size == 0:
            return result
        count = len(merged.voxels)
        joins = coo_array((np.ones(small.size, dtype=bool), (small, large)), shape=(count, count))
        _, groups = connected_components(joins, directed=False)
        # Nothing joins segment 0, so its group holds no other, and must be called 0 again.
        result = relabel(np.where(result == 0, 0, groups[result] + 1))


def _best_neighbours(graph: RegionGraph, minimum_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Regions below the minimum that touch another, and for each the one to join."""
    region = np.concatenate([graph.pairs[:, 0], graph.pairs[:, 1]])
    neighbour = np.concatenate([graph.pairs[:, 1], graph.pairs[:, 0]])
    mean, area = np.tile(graph.mean, 2), np.tile(graph.area, 2)
    small = graph.voxels[region] < minimum_size
    region, neighbour, mean, area = region[small], neighbour[small], mean[small], area[small]
    order = np.lexsort((neighbour, area, mean, region))
    region, neighbour = region[order], neighbour[order]
    last = np.ones(region.shape, dtype=bool)
    last[:-1] = region[1:] != region[:-1]
    return region[last], neighbour[last]
