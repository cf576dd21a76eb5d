"""Multicut: the partition of the region graph whose kept edges attract most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ssns.segmentation.cleaning import Cleaning
from ssns.segmentation.costs import EdgeAffinity, MeanAffinity, Weighting, edge_weights, log_odds
from ssns.segmentation.fragments import DistanceTransformWatershed, Fragments
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.lifted import Lifted, NoneLifted
from ssns.segmentation.relabelling import Ids, relabel
from ssns.segmentation.solvers import CutProblem, KernighanLin, Solver
from ssns.settings import Component


class Multicut(Component):
    """Multicut of the region graph of fragments (Beier et al. 2017, doi 10.1038/nmeth.4151; reference 8.2).

    The defaults are the paper's, which calls it LMC though no edge is lifted.
    """

    type: Literal["multicut"] = "multicut"
    fragments: Fragments = Field(default=DistanceTransformWatershed(), description="The nodes of the graph")
    affinity: EdgeAffinity = Field(default=MeanAffinity(), description="What two fragments are likely to be one by")
    weighting: Weighting = Field(
        default="all",
        description="Costs are multiplied by contact area over the largest of all; over that of contacts between"
        " sections and of those within, each kind apart (xyz); for those between sections only (z); or not (none)",
    )
    lifted: Lifted = Field(default=NoneLifted(), description="Edges between fragments that do not touch")
    solver: Solver = Field(default=KernighanLin(), description="How the minimum is approached")
    beta: float = Field(default=0.5, gt=0, lt=1, description="Bias of the costs: the higher, the more segments")
    cleaning: Cleaning = Field(default=Cleaning(), description="What is done about segments that cannot be neurons")

    swept: ClassVar[str] = "beta"
    running: ClassVar[bool] = False

    @property
    def histograms(self) -> bool:
        """Whether the graph has to count them."""
        return self.affinity.histograms

    @property
    def far(self) -> bool:
        """Whether the graph has to count pairs at offsets beyond the nearest neighbours."""
        return self.lifted.far

    def partitions(self, graph: RegionGraph, betas: Sequence[float]) -> Iterator[Ids]:
        """Partitions of fragments.

        Args:
            graph: The graph of the fragments, with what the method asks for.
            betas: Biases.

        Yields:
            Segment of each fragment, dense, (n + 1,); 0 for fragment 0.
        """
        for problem in self.problems(graph, betas):
            if len(problem.pairs) == 0:
                yield relabel(np.arange(problem.nodes))
                continue
            labels = self.solver.solve(problem) + 1
            labels[0] = 0
            yield relabel(labels)

    def problems(self, graph: RegionGraph, betas: Sequence[float]) -> Iterator[CutProblem]:
        """What is solved for each bias."""
        affinity, weights = self.affinity.of(graph), edge_weights(graph, self.weighting)
        lifted, scale = self.lifted.edges(graph, affinity), np.full(1, self.lifted.strength)
        if self.weighting != "none":
            scale = scale * lifted.size / lifted.size.max(initial=1)
        for beta in betas:
            yield CutProblem(
                nodes=len(graph.voxels),
                pairs=graph.pairs,
                costs=log_odds(affinity, beta) * weights,
                lifted_pairs=lifted.pairs,
                lifted_costs=log_odds(lifted.affinity, beta) * scale,
            )
