"""Multicut problems, plain and lifted, and what solves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import bioimage_cpp
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssns.segmentation.kernighan_lin import moved
from ssns.settings import Component

multicut, lifted_multicut = bioimage_cpp.graph.multicut, bioimage_cpp.graph.lifted_multicut


@dataclass(frozen=True, eq=False)
class CutProblem:
    """Which edges of a graph to cut, so that the costs of those cut have the least sum.

    Attributes:
        nodes: Number of nodes.
        pairs: Ends of each edge (e, 2), the smaller first, each pair once.
        costs: Cost of cutting it (e,): positive where it attracts.
        lifted_pairs: Ends of each lifted edge (k, 2), as ``pairs``, and no pair of these. A lifted edge costs as any
            other when its ends are parted, but it joins nothing: segments hang together by edges alone.
        lifted_costs: Shape (k,).
    """

    nodes: int
    pairs: NDArray[np.int64]
    costs: NDArray[np.float64]
    lifted_pairs: NDArray[np.int64]
    lifted_costs: NDArray[np.float64]

    def energy(self, labels: NDArray[Any]) -> float:
        """Sum of the costs of all edges whose ends have different labels; the lower, the better."""
        cut, parted = (labels[pairs[:, 0]] != labels[pairs[:, 1]] for pairs in (self.pairs, self.lifted_pairs))
        return float(self.costs[cut].sum() + self.lifted_costs[parted].sum())

    @property
    def lifted(self) -> bool:
        """Whether there are lifted edges."""
        return len(self.lifted_pairs) > 0

    def objective(self) -> Any:
        """The problem as the library has it."""
        graph = _graph(self.nodes, self.pairs)
        if not self.lifted:
            return multicut.MulticutObjective(graph, self.costs)
        lifted_pairs = self.lifted_pairs.astype(np.uint64)
        return lifted_multicut.LiftedMulticutObjective(
            graph, self.costs, lifted_uvs=lifted_pairs, lifted_costs=self.lifted_costs
        )


class GreedyAdditive(Component):
    """Greedy additive edge contraction: merges the most attracting pair until none attracts (Keuper et al. 2015)."""

    type: Literal["greedy_additive"] = "greedy_additive"

    def solve(self, problem: CutProblem) -> NDArray[np.uint64]:
        """Label of each node."""
        greedy = lifted_multicut.LiftedGreedyAdditiveMulticut if problem.lifted else multicut.GreedyAdditiveMulticut
        labels: NDArray[np.uint64] = greedy().optimize(problem.objective())
        return labels


class KernighanLin(Component):
    """Kernighan-Lin moves between touching regions, from the greedy solution on (Keuper et al. 2015)."""

    type: Literal["kernighan_lin"] = "kernighan_lin"
    iterations: int = Field(default=100, ge=0, description="Most rounds over all pairs of regions")

    def solve(self, problem: CutProblem) -> NDArray[np.uint64]:
        """Label of each node."""
        if not problem.lifted:
            return moved(problem.pairs, problem.costs, GreedyAdditive().solve(problem), self.iterations)
        library = lifted_multicut.LiftedKernighanLinMulticut(number_of_outer_iterations=self.iterations)
        labels: NDArray[np.uint64] = library.optimize(problem.objective())
        return labels


class FusionMoves(Component):
    """Fusions of the Kernighan-Lin solution with watersheds of noisy costs (Beier et al. 2015)."""

    type: Literal["fusion_moves"] = "fusion_moves"
    iterations: int = Field(default=100, ge=0, description="Most rounds of two proposals")
    patience: int = Field(default=10, ge=1, description="Rounds without improvement after which it ends")
    seeds: float = Field(default=0.05, gt=0, le=1, description="Seeds of a proposal, as a share of the fragments")
    noise: float = Field(default=1.0, ge=0, description="Standard deviation of the noise, over that of the costs")
    seed: int = Field(default=0, ge=0, description="Of the noise")

    def solve(self, problem: CutProblem) -> NDArray[np.uint64]:
        """Label of each node."""
        proposals = multicut.WatershedProposalGenerator(
            sigma=self.noise * problem.costs.std(), n_seeds_fraction=self.seeds, seed=self.seed
        )
        settings = {
            "proposal_generator": proposals,
            "number_of_iterations": self.iterations,
            "stop_if_no_improvement": self.patience,
        }
        fusion = lifted_multicut.FusionMoveLiftedMulticut if problem.lifted else multicut.FusionMoveMulticut
        objective = problem.objective()
        objective.set_labels(KernighanLin().solve(problem))
        labels: NDArray[np.uint64] = fusion(**settings).optimize(objective)
        return labels


class MutexClustering(Component):
    """Mutex watershed of the graph: edges by the size of their cost; attraction merges, repulsion forbids merges.

    All edges that repel, lifted ones too, forbid; lifted edges that attract are left out (Wolf et al. 2020, doi
    10.1109/TPAMI.2020.2980827).
    """

    type: Literal["mutex_clustering"] = "mutex_clustering"

    def solve(self, problem: CutProblem) -> NDArray[np.uint64]:
        """Label of each node."""
        attracts, repels = problem.costs > 0, problem.costs < 0
        parts = problem.lifted_costs < 0
        labels: NDArray[np.uint64] = bioimage_cpp.graph.mutex_watershed.mutex_watershed_clustering(
            _graph(problem.nodes, problem.pairs[attracts]),
            problem.costs[attracts],
            np.concatenate([problem.pairs[repels], problem.lifted_pairs[parts]]).astype(np.uint64),
            -np.concatenate([problem.costs[repels], problem.lifted_costs[parts]]),
        )
        return labels


Solver = Annotated[KernighanLin | GreedyAdditive | FusionMoves | MutexClustering, Field(discriminator="type")]


def _graph(nodes: int, pairs: NDArray[np.int64]) -> Any:
    return bioimage_cpp.graph.UndirectedGraph.from_unique_edges(nodes, pairs.astype(np.uint64))
