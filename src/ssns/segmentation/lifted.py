"""Lifted edges: pairs of fragments that do not touch, and what says whether they are one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import coo_array

from ssns.kernels import compiled
from ssns.segmentation.contacts import AREA_XY, AREA_Z, PAIR, TOTAL
from ssns.segmentation.graph import RegionGraph, pairs_of
from ssns.segmentation.inputs import ONE
from ssns.settings import Component


class LiftedEdges(NamedTuple):
    """Pairs of fragments that are not in contact.

    Attributes:
        pairs: The smaller id first, (k, 2).
        affinity: Evidence that they are one, 0 to 1, (k,).
        size: How much evidence there is (k,): voxel pairs.
    """

    pairs: NDArray[np.int64]
    affinity: NDArray[np.float64]
    size: NDArray[np.int64]


class NoneLifted(Component):
    """No lifted edge."""

    type: Literal["none"] = "none"
    strength: ClassVar[float] = 1.0
    far: ClassVar[bool] = False

    def edges(self, graph: RegionGraph, affinity: NDArray[np.float64]) -> LiftedEdges:  # noqa: ARG002  there are none
        """None; see `GraphDistance`."""
        return LiftedEdges(np.empty((0, 2), np.int64), np.empty(0), np.empty(0, np.int64))


class LongRange(Component):
    """Pairs met at offsets beyond the nearest neighbours, by their mean affinity there."""

    type: Literal["long_range"] = "long_range"
    strength: float = Field(default=1.0, gt=0, description="Factor of their costs")
    far: ClassVar[bool] = True

    def edges(self, graph: RegionGraph, affinity: NDArray[np.float64]) -> LiftedEdges:  # noqa: ARG002  of contacts
        """The lifted edges of a graph with far pairs; see `GraphDistance`."""
        assert graph.far is not None, "they were to be counted"
        rows = graph.far[~np.isin(graph.far[:, PAIR], graph.contacts[:, PAIR])]
        size = rows[:, AREA_Z] + rows[:, AREA_XY]
        return LiftedEdges(pairs_of(rows), rows[:, TOTAL] / (ONE * size), size)


class GraphDistance(Component):
    """Pairs a few contacts apart, by the path of the largest product of affinities (after Keuper et al. 2015).

    They need no more channels than the nearest neighbours. Size is the smallest contact of the path.
    """

    type: Literal["graph_distance"] = "graph_distance"
    strength: float = Field(default=1.0, gt=0, description="Factor of their costs")
    hops: int = Field(default=2, ge=2, le=6, description="Contacts from one to the other at most")
    radius: tuple[float, float, float] | None = Field(
        default=None,
        description="Half axes z, y, x in voxels of the ellipsoid about the centre of the one's surface in which that"
        " of the other lies; none: anywhere",
    )
    far: ClassVar[bool] = False

    def edges(self, graph: RegionGraph, affinity: NDArray[np.float64]) -> LiftedEdges:
        """The lifted edges of a graph.

        Args:
            graph: The graph.
            affinity: Of each contact, 0 to 1, (e,).
        """
        count = len(graph.voxels)
        first, second = graph.pairs.T
        ends = np.concatenate([first, second]), np.concatenate([second, first])
        index = coo_array((np.tile(np.arange(len(first)), 2), ends), shape=(count, count)).tocsr()
        along, area = affinity[index.data], graph.area[index.data]
        found = LiftedEdges(*_reached(index.indptr, index.indices, along, area, self.hops))
        if self.radius is None:
            return found
        one, other = _surface_centres(graph)[found.pairs].transpose(1, 0, 2)
        near = (((one - other) / self.radius) ** 2).sum(axis=1) <= 1
        return LiftedEdges(*(each[near] for each in found))


Lifted = Annotated[NoneLifted | LongRange | GraphDistance, Field(discriminator="type")]


def _surface_centres(graph: RegionGraph) -> NDArray[np.float64]:
    """Mean coordinates z, y, x of all contacts of each region, (n + 1, 3)."""
    sums, areas = np.zeros((len(graph.voxels), 3)), np.zeros((len(graph.voxels), 1))
    for ends in graph.pairs.T:
        np.add.at(sums, ends, graph.centre * graph.area[:, None])
        np.add.at(areas, ends, graph.area[:, None])
    return sums / np.maximum(areas, 1)


@compiled
def _reached(
    starts: NDArray[np.int32],
    neighbours: NDArray[np.int32],
    affinity: NDArray[np.float64],
    area: NDArray[np.int64],
    hops: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Pairs within so many contacts and not in contact: see `LiftedEdges`.

    Args:
        starts: Contacts of region ``i`` are from ``starts[i]`` to ``starts[i + 1]``, (n + 2,).
        neighbours: The other region of each, (2 e,).
        affinity: Of the contact, (2 e,).
        area: Of the contact, (2 e,).
        hops: At least 2.
    """
    count = starts.shape[0] - 1
    pairs, best, least = np.empty((1024, 2), np.int64), np.empty(1024), np.empty(1024, np.int64)
    used = 0
    # From one region on: what touches it, whom paths met, and product and smallest contact of the best path to each.
    touching, met = np.full(count, -1, np.int64), np.empty(count, np.int64)
    product, narrow = np.zeros(count), np.zeros(count, np.int64)
    # Ends of the paths that became better with the last contact, with what was known when it was added.
    ends, further, renewed = np.empty(count, np.int64), np.empty(count, np.int64), np.full(count, -1, np.int64)
    products, narrows = np.empty(count), np.empty(count, np.int64)
    for source in range(count):
        product[source], narrow[source] = 1.0, np.iinfo(np.int64).max
        met[0], ends[0], seen, last = source, source, 1, 1
        for hop in range(hops):
            for i in range(last):
                products[i], narrows[i] = product[ends[i]], narrow[ends[i]]
            grown = 0
            for i in range(last):
                for at in range(starts[ends[i]], starts[ends[i] + 1]):
                    region, through = neighbours[at], products[i] * affinity[at]
                    if hop == 0:
                        touching[region] = source
                    if narrow[region] > 0 and product[region] >= through:
                        continue
                    if narrow[region] == 0:
                        met[seen] = region
                        seen += 1
                    product[region], narrow[region] = through, min(narrows[i], area[at])
                    if renewed[region] != source * hops + hop:
                        renewed[region] = source * hops + hop
                        further[grown] = region
                        grown += 1
            ends, further, last = further, ends, grown
        for region in met[:seen]:
            if region > source and touching[region] != source:
                if used == len(best):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                    best = np.concatenate((best, np.empty_like(best)))
                    least = np.concatenate((least, np.empty_like(least)))
                pairs[used, 0], pairs[used, 1] = source, region
                best[used], least[used] = product[region], narrow[region]
                used += 1
            product[region], narrow[region] = 0.0, 0
    return pairs[:used], best[:used], least[:used]
