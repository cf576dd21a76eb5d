"""The graph of touching regions, with statistics that add up when regions merge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bioimage_cpp
import numpy as np
from numpy.typing import NDArray

from ssns.affinities import NEAREST


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Regions 1 .. n and their contacts. Region 0 is nothing: it has no contacts.

    Attributes:
        voxels: Size of each region, int64 (n + 1,), 0 for region 0.
        pairs: Regions in contact, int64 (e, 2), the smaller id first, unique, sorted.
        area: Voxel pairs of each contact, float64 (e,).
        total: Sum of the affinities of those voxel pairs, float64 (e,).
    """

    voxels: NDArray[np.int64]
    pairs: NDArray[np.int64]
    area: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def of(cls, regions: NDArray[Any], nearest: NDArray[np.float32], threads: int | None = None) -> RegionGraph:
        """The graph of regions in a volume.

        Args:
            regions: Dense ids (z, y, x), 0 for nothing.
            nearest: Affinities to the previous voxel along z, y and x, (3, z, y, x).
            threads: None: one per core.
        """
        workers = threads or 0  # The library's 0 means one per core.
        ids = regions.astype(np.uint32, copy=False)
        graph = bioimage_cpp.graph.region_adjacency_graph(ids, number_of_threads=workers)
        voxels = np.bincount(regions.ravel())
        voxels[0] = 0
        if graph.number_of_edges == 0:
            return cls(voxels, np.empty((0, 2), np.int64), np.empty(0), np.empty(0))
        features = bioimage_cpp.graph.features.affinity_features(
            graph, ids, nearest, [list(offset) for offset in NEAREST], number_of_threads=workers
        )
        pairs = graph.uv_ids().astype(np.int64)
        real = pairs[:, 0] > 0
        mean, area = features[real].astype(np.float64).T
        return cls(voxels, pairs[real], area, mean * area)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean affinity of each contact, (e,)."""
        return self.total / self.area

    def contracted(self, merged: NDArray[Any]) -> RegionGraph:
        """The graph of merged regions.

        Args:
            merged: New id of each region, (n + 1,), dense; of region 0, and no other, 0.
        """
        voxels = np.zeros(int(merged.max(initial=0)) + 1, dtype=np.int64)
        np.add.at(voxels, merged, self.voxels)
        pairs = np.sort(merged[self.pairs].astype(np.int64), axis=1)
        apart = pairs[:, 0] != pairs[:, 1]
        # One key per pair: sorting single numbers is many times faster than sorting rows.
        keys, contact = np.unique(pairs[apart, 0] * len(voxels) + pairs[apart, 1], return_inverse=True)
        area, total = np.zeros(len(keys)), np.zeros(len(keys))
        np.add.at(area, contact, self.area[apart])
        np.add.at(total, contact, self.total[apart])
        return RegionGraph(voxels, np.stack(np.divmod(keys, len(voxels)), axis=1), area, total)
