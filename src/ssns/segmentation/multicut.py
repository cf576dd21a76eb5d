"""Multicut: the partition of the region graph whose kept edges attract most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import bioimage_cpp
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssns.segmentation.fragments import DistanceTransformWatershed, Fragments
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.relabelling import Ids, relabel
from ssns.settings import Component


class GreedyAdditive(Component):
    """Greedy additive edge contraction: merges the most attracting pair until none attracts."""

    type: Literal["greedy_additive"] = "greedy_additive"

    def build(self) -> Any:
        """The solver."""
        return bioimage_cpp.graph.multicut.GreedyAdditiveMulticut()


class KernighanLin(Component):
    """Kernighan-Lin moves between touching regions, from the greedy solution on (Keuper et al. 2015)."""

    type: Literal["kernighan_lin"] = "kernighan_lin"
    iterations: int = Field(default=100, ge=0, description="Most rounds over all pairs of regions")

    def build(self) -> Any:
        """The solver."""
        return bioimage_cpp.graph.multicut.KernighanLinMulticut(number_of_outer_iterations=self.iterations)


Solver = Annotated[KernighanLin | GreedyAdditive, Field(discriminator="type")]


class Multicut(Component):
    """Multicut of the region graph of fragments (Beier et al. 2017, doi 10.1038/nmeth.4151; reference 8.2).

    The defaults are the paper's, which calls it LMC though no edge is lifted.
    """

    type: Literal["multicut"] = "multicut"
    fragments: Fragments = Field(default=DistanceTransformWatershed(), description="The nodes of the graph")
    solver: Solver = Field(default=KernighanLin(), description="How the minimum is approached")
    beta: float = Field(default=0.5, gt=0, lt=1, description="Bias of the costs: the higher, the more segments")
    minimum_size: int = Field(default=0, ge=0, description="Voxels below which a segment joins its best neighbour")

    swept: ClassVar[str] = "beta"
    histograms: ClassVar[bool] = False

    def partitions(self, graph: RegionGraph, betas: Sequence[float]) -> Iterator[Ids]:
        """Partitions of fragments.

        Args:
            graph: The graph of the fragments.
            betas: Biases.

        Yields:
            Segment of each fragment, dense, (n + 1,); 0 for fragment 0.
        """
        for beta in betas:
            yield self._solve(graph, beta)

    def _solve(self, regions: RegionGraph, beta: float) -> Ids:
        nodes = len(regions.voxels)
        if len(regions.pairs) == 0:
            return relabel(np.arange(nodes))
        graph = bioimage_cpp.graph.UndirectedGraph.from_unique_edges(nodes, regions.pairs.astype(np.uint64))
        objective = bioimage_cpp.graph.multicut.MulticutObjective(graph, edge_costs(regions, beta))
        labels = self.solver.build().optimize(objective) + 1
        labels[0] = 0
        return relabel(labels)


def edge_costs(regions: RegionGraph, beta: float) -> NDArray[np.float64]:
    """Costs of cutting each contact, positive where it attracts.

    ``log((1 - p) / p) + log((1 - beta) / beta)``, weighed by contact area over the largest area, with the boundary
    probability ``p = 0.998 (1 - mean affinity) + 0.001``, which keeps the logarithm finite.

    Args:
        regions: At least one contact.
        beta: Bias in (0, 1); 0.5 is none.

    Returns:
        Shape (e,).
    """
    boundary = 0.998 * (1 - regions.mean) + 0.001
    bias = np.log((1 - beta) / beta)
    costs: NDArray[np.float64] = (np.log((1 - boundary) / boundary) + bias) * regions.area / regions.area.max()
    return costs
